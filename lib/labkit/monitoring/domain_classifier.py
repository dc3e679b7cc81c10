"""How well a classifier tells the rows now from those of the reference, as a whole.

Effects of single columns do not show that columns occur together as they did not before. A domain classifier does: its
area under the ROC curve is 0.5 if rows now cannot be told from the reference (Lopez-Paz and Oquab, Revisiting
classifier two-sample tests, ICLR 2017). But rows of a day share its weather, so any day can be told from all others,
on flights by the pressure alone. Therefore

- it judges a stretch of several windows, and predicts only windows that it was not fitted on, of both sides;
- columns of whose variance more than a fifth lies between windows are left out, and categories that grow by nature;
- the interval draws whole windows;
- and it alarms only if the area is much larger than that of stretches of the reference, as long as this one, which are
  told from the rest of the reference without their own weeks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier

from labkit.model.evaluation.blocks import DAY, Blocks
from labkit.model.evaluation.bootstrap import Interval, make_interval
from labkit.monitoring.drift import TWICE, describe_usual, find_fewest, list_growing
from labkit.monitoring.reference_profile import Reference
from labkit.monitoring.row_sample import RowSample
from labkit.monitoring.window_counts import Counts
from labkit.units import format_count

LENGTH, FEWEST_LENGTH = 7, 3
"""Windows of a stretch, at most and at least: of days a week, in which each weekday occurs once."""
MOST_STRETCHES, MOST_USUAL = 26, 30
"""Stretches that are judged, the latest, and stretches of the reference that show what is usual."""
FEWEST_SAMPLED = 100
"""Rows of a stretch, and of the rest of the reference, that a classifier needs."""
SHARED = 0.2
"""Share of the variance that lies between windows from which a column is left out: it names the window."""
FLOOR = 0.6
"""Smallest area that counts, whatever is usual."""
N_DRAWS, CONFIDENCE = 200, 0.95
SETTINGS: dict[str, Any] = {
    "n_estimators": 40, "num_leaves": 15, "class_weight": "balanced", "n_jobs": 1, "verbose": -1, "random_state": 0,
    "deterministic": True, "force_row_wise": True,
}  # fmt: skip
MOST_NAMED = 3
SMALLEST_SHARE = 0.01
"""Loss of the area by a shuffled column from which the column is named."""


@dataclass(frozen=True)
class Stretch:
    """Windows in a row whose rows were told from the reference.

    Attributes
    ----------
    first, last
        Numbers of its windows.
    area
        Area under the ROC curve, with its interval.
    score
        Distance of its logit from that of the reference's stretches, in their spreads.
    columns
        Columns that tell the rows apart, by how much the area falls if their values are shuffled, the largest first;
        only of a stretch that alarms.
    """

    first: int
    last: int
    area: Interval
    score: float
    columns: Sequence[tuple[str, float]] = ()

    @property
    def is_alarm(self) -> bool:
        """Whether its rows differ from the reference by more than stretches of the reference do."""
        return self.area.value >= FLOOR and self.area.low > 0.5 and self.score > TWICE


@dataclass(frozen=True)
class RowComparison:
    """Comparison of whole rows with the reference.

    Attributes
    ----------
    stretches
        In the order of their windows; none if nothing could be compared.
    areas
        Areas of the reference's stretches, shape (n_stretches,).
    left_out
        Columns that were not used.
    reason
        Why nothing was compared.
    """

    stretches: Sequence[Stretch] = ()
    areas: np.ndarray = field(default_factory=lambda: np.empty(0))
    left_out: Sequence[str] = ()
    reason: str = ""

    @property
    def alarms(self) -> list[Stretch]:
        """The stretches that alarm, the one with the largest area first."""
        return sorted((one for one in self.stretches if one.is_alarm), key=lambda one: -one.area.value)


@dataclass(frozen=True)
class Folds:
    """Predictions for windows that a classifier was not fitted on, of both sides, in two folds.

    Attributes
    ----------
    pairs
        By fold, how many pairs of a row now and a row of the reference are in the right order, shape (n_now,
        n_reference); half of a tie counts.
    rows
        By fold, rows of the windows of each side, shapes (n_now,) and (n_reference,).
    """

    pairs: Sequence[np.ndarray]
    rows: Sequence[tuple[np.ndarray, np.ndarray]]

    def compute_area(self, now: np.ndarray, reference: np.ndarray) -> float:
        """Return the area under the ROC curve if windows count as often as these weights say."""
        right = total = 0.0
        for fold, (pairs, (n_now, n_reference)) in enumerate(zip(self.pairs, self.rows, strict=True)):
            ours, theirs = now[fold::2], reference[fold::2]
            right += float(ours @ pairs @ theirs)
            total += float((ours @ n_now) * (theirs @ n_reference))
        return right / total if total else np.nan

    def measure(self, *, seed: int) -> Interval:
        """Return the area with its interval, which draws the windows of each side."""
        n_now, n_reference = (sum(len(rows[side]) for rows in self.rows) for side in (0, 1))
        value = self.compute_area(np.ones(n_now), np.ones(n_reference))
        random, areas = np.random.default_rng(seed), []
        for _ in range(N_DRAWS):
            drawn = (random.multinomial(n, np.full(n, 1 / n)).astype(float) for n in (n_now, n_reference))
            areas.append(self.compute_area(*drawn))
        known = [area for area in areas if np.isfinite(area)]
        return make_interval(value, known, CONFIDENCE, Blocks(np.arange(n_now), DAY))


def compare_rows(
    reference: Reference,
    kept: RowSample | None,
    now: RowSample | None,
    counts: Counts,
    *,
    areas: np.ndarray | None = None,
) -> RowComparison:
    """Compare the rows of windows with the reference.

    Parameters
    ----------
    kept, now
        Samples of the reference and of the rows to judge; None without one.
    counts
        The windows to judge.
    areas
        Those of an earlier comparison of as many windows with the same reference; None measures them.
    """
    if kept is None or now is None:
        return RowComparison(reason="the release has no sample of training rows (deploy.reference_rows)")
    kept = kept.take(np.isin(kept.numbers, reference.counts.numbers[reference.complete]))
    numbers = counts.numbers[counts.rows >= find_fewest(reference)]
    numbers = numbers[np.isin(numbers, now.numbers)]
    length = min(LENGTH, len(numbers))
    if length < FEWEST_LENGTH:
        n_windows = format_count(len(numbers), "window")
        return RowComparison(reason=f"{n_windows} with enough rows, {FEWEST_LENGTH} are needed")
    compared, left_out = choose_compared(reference)
    if not compared:
        return RowComparison(left_out=left_out, reason="no column varies more within windows than between them")
    kept, now = (RowSample(one.values[:, compared], one.numbers, one.quota) for one in (kept, now))
    names = [[*reference.layout][place] for place in compared]
    categories = [place for place, name in enumerate(names) if reference.layout[name].kind == "category"]
    areas = measure_usual(reference, kept, length, categories) if areas is None else areas
    chosen = [numbers[end - length : end] for end in range(len(numbers), length - 1, -length)][:MOST_STRETCHES][::-1]
    stretches = [now.take(np.isin(now.numbers, one)) for one in chosen]
    is_small = min(len(one.numbers) for one in stretches) < FEWEST_SAMPLED
    if is_small or len(areas) < FEWEST_LENGTH:
        return RowComparison(left_out=left_out, reason="too few rows or windows to fit a classifier on")
    usual = describe_usual(to_logit(areas), 0.0)
    found = []
    for rows in stretches:
        folds, models = fit_folds(rows, kept, categories)
        area = folds.measure(seed=0)
        # Stretches of the reference that never varied would make any other one infinitely unusual.
        score = float((to_logit(area.value) - usual.median) / max(usual.spread, 0.1))
        one = Stretch(int(rows.numbers[0]), int(rows.numbers[-1]), area, score)
        if one.is_alarm:
            one = Stretch(one.first, one.last, area, score, rank_telling_columns(rows, kept, models, area.value, names))
        found.append(one)
    return RowComparison(found, areas, left_out)


def to_logit(areas: np.ndarray | float) -> np.ndarray:
    """Return the logit of areas, so that those near 1 can be far from usual; at most that of 0.9999."""
    clipped = np.clip(areas, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped / (1 - clipped)))


def choose_compared(reference: Reference) -> tuple[list[int], list[str]]:
    """Return the positions of the columns that are compared, and the names of those that are left out."""
    growing, compared, left_out = list_growing(reference), [], []
    for place, (name, cells) in enumerate(reference.layout.items()):
        is_usable = not cells.is_open and cells.n_cells > 1 and name not in growing
        if is_usable and compute_shared(reference, name) <= SHARED:
            compared.append(place)
        else:
            left_out.append(name)
    return compared, left_out


def compute_shared(reference: Reference, name: str) -> float:
    """Return the share of a column's variance that lies between complete windows of the reference, 0 to 1."""
    counts, cells = reference.counts.take(reference.complete), reference.layout[name]
    if cells.kind == "number":
        known = np.maximum(counts.rows - counts.missing[name], 1)
        means, squares = (counts.sums[name].T / known)[:, :, None]
    else:
        known = np.maximum(counts.cells[name].sum(axis=1), 1)
        means = squares = counts.cells[name] / known[:, None]
    variances = np.maximum(squares - means**2, 0)
    between = np.maximum(means.var(axis=0) - (variances / known[:, None]).mean(axis=0), 0).sum()
    total = between + variances.mean(axis=0).sum()
    return float(between / total) if total > 0 else 0.0


def measure_usual(reference: Reference, kept: RowSample, length: int, categories: Sequence[int]) -> np.ndarray:
    """Return the areas of stretches of the reference, each told from the rest without its own weeks."""
    numbers = np.unique(kept.numbers)
    starts = np.unique(np.linspace(0, max(len(numbers) - length, 0), MOST_USUAL).astype(int))
    groups, areas = reference.windows.group(kept.numbers), []
    for start in starts:
        own = numbers[start : start + length]
        rest = kept.take(~np.isin(groups, reference.windows.group(own)))
        rows = kept.take(np.isin(kept.numbers, own))
        if min(len(rest.numbers), len(rows.numbers)) >= FEWEST_SAMPLED and len(np.unique(rest.numbers)) > 1:
            folds, _ = fit_folds(rows, rest, categories)
            areas.append(folds.compute_area(np.ones(len(own)), np.ones(len(np.unique(rest.numbers)))))
    return np.array(areas)


def fit_folds(now: RowSample, reference: RowSample, categories: Sequence[int]) -> tuple[Folds, list[LGBMClassifier]]:
    """Predict each half of the windows of both sides with a classifier fitted on the other half."""
    places, models = number_windows(now, reference), []
    for fold in (0, 1):
        learned = [one.values[where % 2 != fold] for one, where in zip((now, reference), places, strict=True)]
        is_now = np.repeat([1, 0], [len(one) for one in learned])
        models.append(LGBMClassifier(**SETTINGS).fit(np.vstack(learned), is_now, categorical_feature=[*categories]))
    return predict_folds(models, [now.values, reference.values], places), models


def number_windows(*sides: RowSample) -> list[np.ndarray]:
    """Return the place of each row's window among those of its side, shape (n_rows,)."""
    return [np.unique(one.numbers, return_inverse=True)[1] for one in sides]


def predict_folds(models: Sequence[LGBMClassifier], sides: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> Folds:
    """Return the predictions of each fold's classifier for the other windows of both sides."""
    pairs, rows = [], []
    for fold, model in enumerate(models):
        is_tested = [where % 2 == fold for where in places]
        codes = [where[tested] // 2 for where, tested in zip(places, is_tested, strict=True)]
        scores = [compute_scores(model, values[tested]) for values, tested in zip(sides, is_tested, strict=True)]
        pairs.append(count_pairs(scores[0], codes[0], scores[1], codes[1]))
        rows.append((np.bincount(codes[0]).astype(float), np.bincount(codes[1]).astype(float)))
    return Folds(pairs, rows)


def compute_scores(model: LGBMClassifier, values: np.ndarray) -> np.ndarray:
    """Return how much rows look like those now, shape (n_rows,)."""
    return np.asarray(model.booster_.predict(values, raw_score=True))


def count_pairs(ours: np.ndarray, our_places: np.ndarray, theirs: np.ndarray, their_places: np.ndarray) -> np.ndarray:
    """Return by windows how many pairs are in the right order, ours above theirs, shape (n_ours, n_theirs).

    >>> count_pairs(np.array([1.0, 3.0]), np.array([0, 0]), np.array([2.0, 3.0, 0.0]), np.array([0, 0, 1]))
    array([[1.5, 2. ]])
    """
    n_ours, n_theirs = int(our_places.max()) + 1, int(their_places.max()) + 1
    counted = np.zeros((n_ours, n_theirs))
    for place in range(n_theirs):
        others = np.sort(theirs[their_places == place])
        below = (np.searchsorted(others, ours, "left") + np.searchsorted(others, ours, "right")) / 2
        counted[:, place] = np.bincount(our_places, below, minlength=n_ours)
    return counted


def rank_telling_columns(
    now: RowSample, reference: RowSample, models: Sequence[LGBMClassifier], area: float, names: Sequence[str]
) -> list[tuple[str, float]]:
    """Return the columns that tell the rows apart, with how much the area falls if their values are shuffled."""
    random, found = np.random.default_rng(0), []
    places, n_now = number_windows(now, reference), len(now.numbers)
    weights = [np.ones(int(where.max()) + 1) for where in places]
    for place, name in enumerate(names):
        values = np.vstack([now.values, reference.values])
        values[:, place] = random.permutation(values[:, place])
        folds = predict_folds(models, [values[:n_now], values[n_now:]], places)
        if (lost := area - folds.compute_area(weights[0], weights[1])) >= SMALLEST_SHARE:
            found.append((name, lost))
    return sorted(found, key=lambda one: -one[1])[:MOST_NAMED]
