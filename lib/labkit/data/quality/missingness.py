"""Whether a column is filled or not, as far as that tells the target: columns that are filled once it is known.

A missing value may say something honestly: a test that is made of the sick more often. What is filled after the outcome
is nearly never filled in one of the classes, and `filled or not` explains most of it.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from labkit.data.quality.evidence import Leak, Rows, bound_share, floor_percent
from labkit.params.tables import FEWEST_OF_CLASS

NEARLY_NEVER = 0.1
"""Share of rows up to which a column is nearly never filled in a class; of numbers, below a threshold."""
NEARLY_NEVER_BELOW = 0.02
TELLING, TELLING_BY_THRESHOLD, NOTABLE = 0.5, 0.8, 0.35
"""Shares of the target's variance that `filled or not` explains: a leak by class, by threshold, and a suspicion."""
FEWEST_APART = 0.4
"""Least informedness, which is 0 for guessing and 1 for a perfect rule, that rows have to make sure."""
FILLED_WITH, FILLED_AFTER = "filled with the target", "filled after the outcome"


def find_missing_leak(is_filled: np.ndarray, is_blank: np.ndarray, rows: Rows) -> Leak | None:
    """Return how `filled or not` leaks the target, or None.

    Rows without a target count only where they are otherwise filled: a blank row says nothing about one column.
    """
    if is_filled.all() or not is_filled.any():
        return None
    is_unknown = ~rows.is_known & ~is_blank
    labelled = is_filled[rows.is_known]
    known = FilledCounts(len(labelled), int(labelled.sum()), int(is_unknown.sum()), int(is_filled[is_unknown].sum()))
    told = None
    if known.share_low <= NEARLY_NEVER and known.compute_informedness(rows.alpha) >= FEWEST_APART:
        # What is measured together with the target looks the same.
        evidence = f"filled in {known.high} rows with a target and in {known.low} without"
        told = Leak(FILLED_WITH, evidence, is_sure=False)
    found = find_by_class(labelled, rows) if rows.classes else find_by_threshold(labelled, rows)
    return found if found and found.is_sure else told or found


@dataclass(frozen=True)
class FilledCounts:
    """In how many rows of two groups a column is filled."""

    n_high: int
    filled_high: int
    n_low: int
    filled_low: int

    @property
    def high(self) -> str:
        """The group in which it is filled more often, as `88 of 90`."""
        return f"{self.filled_high:,} of {self.n_high:,}"

    @property
    def low(self) -> str:
        """The other group, as `6 of 112`."""
        return f"{self.filled_low:,} of {self.n_low:,}"

    @property
    def share_low(self) -> float:
        """Share of rows in which it is filled in the other group."""
        return self.filled_low / max(self.n_low, 1)

    def compute_explained(self) -> float:
        """Return the share of the groups' variance that `filled or not` explains: the squared phi coefficient."""
        missing_high, missing_low = self.n_high - self.filled_high, self.n_low - self.filled_low
        n_filled, n_missing = self.filled_high + self.filled_low, missing_high + missing_low
        margins = float(self.n_high) * self.n_low * n_filled * n_missing
        return float(self.filled_high * missing_low - self.filled_low * missing_high) ** 2 / margins if margins else 0.0

    def compute_informedness(self, alpha: float) -> float:
        """Return a lower bound of the difference of both shares (Youden's J; an AUC of (1 + J) / 2)."""
        if not (self.n_high and self.n_low):
            return 0.0
        low = bound_share(self.filled_high, self.n_high, alpha / 2)[0]
        return low - bound_share(self.filled_low, self.n_low, alpha / 2)[1]

    def compute_coincidence(self) -> float:
        """Return the probability that by coincidence all filled rows fall into the first group."""
        n_rows, n_filled = self.n_high + self.n_low, self.filled_high + self.filled_low
        return float(stats.hypergeom(n_rows, self.n_high, n_filled).pmf(n_filled))


def find_by_class(is_filled: np.ndarray, rows: Rows) -> Leak | None:
    """Return that a column is filled in some classes and nearly never in the others, or None."""
    sizes = np.bincount(rows.values, minlength=len(rows.classes))
    filled = np.bincount(rows.values, weights=is_filled, minlength=len(rows.classes)).astype(int)
    usable = np.flatnonzero(sizes >= FEWEST_OF_CLASS)
    usable = usable[np.argsort(-filled[usable] / sizes[usable], kind="stable")]
    splits = []
    for n_high in range(1, len(usable)):
        high = usable[:n_high]
        n, k = int(sizes[high].sum()), int(filled[high].sum())
        splits.append(FilledCounts(n, k, len(is_filled) - n, int(is_filled.sum()) - k))
    if not splits:
        return None
    best = int(np.argmax([split.compute_explained() for split in splits]))
    split = splits[best]
    names = [repr(rows.classes[code]) for code in usable[: best + 1]]
    shown = " or ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} or {len(names) - 2} other classes"
    evidence = f"filled in {split.high} rows with {shown} and in {split.low} others"
    return judge_split(split, evidence, rows.alpha / len(splits), NEARLY_NEVER, TELLING)


def find_by_threshold(is_filled: np.ndarray, rows: Rows) -> Leak | None:
    """Return that a column is nearly never filled on one side of a threshold of the target, or None."""
    order = np.argsort(rows.values, kind="stable")
    numbers, marks = rows.values[order], is_filled[order]
    ends = np.flatnonzero(np.diff(numbers) > 0) + 1
    ends = ends[(ends >= FEWEST_OF_CLASS) & (ends <= len(numbers) - FEWEST_OF_CLASS)]
    if not len(ends):
        return None
    filled = np.cumsum(marks)[ends - 1]
    n_rows, n_filled = len(marks), int(marks.sum())
    shares = np.abs(filled / ends - (n_filled - filled) / (n_rows - ends)) * np.sqrt(ends * (n_rows - ends))
    place = int(np.argmax(shares))
    end, below = int(ends[place]), int(filled[place])
    is_above = below / end < (n_filled - below) / (n_rows - end)
    sides = (n_rows - end, n_filled - below, end, below) if is_above else (end, below, n_rows - end, n_filled - below)
    split = FilledCounts(*sides)
    where = f"above {numbers[end - 1]:g}" if is_above else f"below {numbers[end]:g}"
    evidence = f"filled in {split.high} rows with a target {where} and in {split.low} others"
    leak = judge_split(split, evidence, rows.alpha / (2 * len(ends)), NEARLY_NEVER_BELOW, TELLING_BY_THRESHOLD)
    # In a series in order of time, a column that begins or ends within it is filled on one side as well.
    return replace(leak, is_sure=False) if leak and rows.is_series else leak


def judge_split(split: FilledCounts, evidence: str, alpha: float, never: float, telling: float) -> Leak | None:
    """Return a leak or a suspicion if the column is nearly never filled in one group, and rows make it sure."""
    explained = split.compute_explained()
    if split.share_low > never:
        return None
    if split.compute_informedness(alpha) >= FEWEST_APART and explained >= NOTABLE:
        told = f"{evidence}, which explains {floor_percent(explained)} of that difference"
        return Leak(FILLED_AFTER, told, is_sure=explained >= telling)
    if not split.filled_low and split.filled_high >= FEWEST_OF_CLASS and split.compute_coincidence() < alpha:
        return Leak(FILLED_AFTER, evidence, is_sure=False)
    return None
