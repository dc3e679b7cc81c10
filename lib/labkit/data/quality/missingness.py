"""Detect columns whose missingness leaks the target because they are filled only once it is known.

Missing values may be legitimately informative: the sick are tested more often. A column that is filled after the
outcome is nearly never filled in one of the classes, and `filled or not` explains most of the target.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from labkit.data.quality.evidence import Leak, Rows, bound_share, floor_percent
from labkit.params.tables import FEWEST_OF_CLASS

NEARLY_NEVER = 0.1
"""Maximum share of filled rows in a class for a column to be "nearly never filled" there."""
NEARLY_NEVER_BELOW = 0.02
"""The same for a numeric target, on one side of a threshold."""
TELLING, TELLING_BY_THRESHOLD, NOTABLE = 0.5, 0.8, 0.35
"""Minimum shares of the target's variance that `filled or not` explains: leak by class, by threshold, suspicion."""
FEWEST_APART = 0.4
"""Minimum lower bound of the informedness, which is 0 for guessing and 1 for a perfect rule."""
FILLED_WITH, FILLED_AFTER = "filled with the target", "filled after the outcome"


def find_missing_leak(is_filled: np.ndarray, is_blank: np.ndarray, rows: Rows) -> Leak | None:
    """Return how `filled or not` leaks the target, or None if it does not.

    Rows without a target count only if they are mostly filled otherwise: a blank row is no evidence about a column.

    Parameters
    ----------
    is_filled
        Whether the column has a value, shape (n_rows,).
    is_blank
        Whether at most half of the columns have a value in the row, shape (n_rows,).
    rows
        The target.
    """
    if is_filled.all() or not is_filled.any():
        return None
    is_unknown = ~rows.is_known & ~is_blank
    labelled = is_filled[rows.is_known]
    known = FilledCounts(len(labelled), int(labelled.sum()), int(is_unknown.sum()), int(is_filled[is_unknown].sum()))
    suspicion = None
    if known.share_low <= NEARLY_NEVER and known.compute_informedness(rows.alpha) >= FEWEST_APART:
        # A column that is measured together with the target looks the same.
        evidence = f"filled in {known.high} rows with a target and in {known.low} without"
        suspicion = Leak(FILLED_WITH, evidence, is_sure=False)
    found = find_by_class(labelled, rows) if rows.classes else find_by_threshold(labelled, rows)
    return found if found and found.is_sure else suspicion or found


@dataclass(frozen=True)
class FilledCounts:
    """Number of rows in two groups, and of those in which a column is filled."""

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
        """Share of rows of the other group in which it is filled."""
        return self.filled_low / max(self.n_low, 1)

    def compute_explained(self) -> float:
        """Return the share of the group indicator's variance explained by `filled or not` (squared phi coefficient)."""
        missing_high, missing_low = self.n_high - self.filled_high, self.n_low - self.filled_low
        n_filled, n_missing = self.filled_high + self.filled_low, missing_high + missing_low
        margins = float(self.n_high) * self.n_low * n_filled * n_missing
        return float(self.filled_high * missing_low - self.filled_low * missing_high) ** 2 / margins if margins else 0.0

    def compute_informedness(self, alpha: float) -> float:
        """Return a lower bound of the difference between both shares (Youden's J; the AUC is (1 + J) / 2)."""
        if not (self.n_high and self.n_low):
            return 0.0
        low = bound_share(self.filled_high, self.n_high, alpha / 2)[0]
        return low - bound_share(self.filled_low, self.n_low, alpha / 2)[1]

    def compute_coincidence(self) -> float:
        """Return the probability that all filled rows fall into the first group by coincidence (hypergeometric)."""
        n_rows, n_filled = self.n_high + self.n_low, self.filled_high + self.filled_low
        return float(stats.hypergeom(n_rows, self.n_high, n_filled).pmf(n_filled))


def find_by_class(is_filled: np.ndarray, rows: Rows) -> Leak | None:
    """Return a leak if a column is filled in some classes and nearly never in the others, or None."""
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
    """Return a leak if a column is nearly never filled on one side of a threshold of the target, or None."""
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
    # In a time series, a column that starts or ends within it is also filled on one side only.
    return replace(leak, is_sure=False) if leak and rows.is_series else leak


def judge_split(split: FilledCounts, evidence: str, alpha: float, never: float, sure: float) -> Leak | None:
    """Return a leak or a suspicion if a column is nearly never filled in one group and rows suffice, or None."""
    explained = split.compute_explained()
    if split.share_low > never:
        return None
    if split.compute_informedness(alpha) >= FEWEST_APART and explained >= NOTABLE:
        evidence = f"{evidence}, which explains {floor_percent(explained)} of that difference"
        return Leak(FILLED_AFTER, evidence, is_sure=explained >= sure)
    if not split.filled_low and split.filled_high >= FEWEST_OF_CLASS and split.compute_coincidence() < alpha:
        return Leak(FILLED_AFTER, evidence, is_sure=False)
    return None
