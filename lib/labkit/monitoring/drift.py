"""Drift: windows of rows that differ from the reference by more than its own windows differ from the rest of it.

A series is one effect size of one column over windows (see `labkit.monitoring.effects`). Each window of the reference
is compared with the reference without its own week, which gives the median and the spread of every series when nothing
has changed; a later window is compared with the whole reference. It alarms if its effect is at least the floor of its
kind, and if its distance from the median, in spreads, exceeds `TWICE` in two windows in a row or `ONCE` in one.

Thresholds
----------
No test of significance is used. Rows of one day are not independent: on flights of real days, every test by rows alarms
on every calm day, corrected for many columns or not. `TWICE`, `ONCE` and the floors were chosen on calm streams of 90
days of flights with real weather, and tried on other streams; `benchmarks/MONITORING.md` has the numbers. Floors are
the usual ones: W/sd 0.1 and Jensen-Shannon 0.1 in Evidently (`stattests/registry.py`), of which the latter is halved,
because calibrated windows do not alarm on small differences by chance.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from labkit.monitoring.effects import (
    compute_changed_share,
    compute_jensen_shannon,
    compute_share_change,
    compute_unseen_share,
    compute_volume_change,
    compute_wasserstein,
)
from labkit.monitoring.reference_profile import Reference
from labkit.monitoring.relations import Relations
from labkit.monitoring.window_counts import Cells, Counts

Kind = Literal["distribution", "unseen values", "missing values", "relation", "volume"]
Key = tuple[str, Kind]
"""Column, empty for the volume, and kind of a series."""
TWICE, ONCE = 6.0, 12.0
USUAL_SERIES, USUAL_WINDOWS = 42, 90
"""Series and windows for which `TWICE` and `ONCE` were chosen; more series raise them, see `scale_thresholds`."""
FLOORS: dict[Kind, float] = {
    "distribution": 0.10,
    "unseen values": 0.005,
    "missing values": 0.05,
    "relation": 0.05,
    "volume": math.log(1.5),
}
"""Smallest effect that counts, whatever the spread; `CATEGORY_FLOOR` for the distribution of categories."""
CATEGORY_FLOOR = 0.05
FEWEST_KNOWN = 30
"""Values that a window needs for its distribution to be compared."""
LARGEST_SCORE = 999.0
MOST_FILLED = 1000
"""Longest run of windows without rows that are judged one by one."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is 1."""


@dataclass(frozen=True)
class Usual:
    """How a series behaves within the reference."""

    median: float
    spread: float
    floor: float

    def score(self, effects: np.ndarray) -> np.ndarray:
        """Return the distance of effects from the median in spreads, at most `LARGEST_SCORE`; NaN stays NaN."""
        above = effects - self.median
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (
                np.where(above > 0, above / self.spread, 0.0) if self.spread > 0 else np.where(above > 0, np.inf, 0)
            )
        return np.where(np.isnan(effects), np.nan, np.minimum(scores, LARGEST_SCORE))


@dataclass(frozen=True)
class Change:
    """A series that alarms.

    Attributes
    ----------
    effect, score
        The largest effect among the windows that alarm, and its distance from the median in spreads.
    first, last, worst
        Numbers of the first and the last window that alarm, and of that with the largest score.
    n_windows
        How many alarm.
    """

    column: str
    kind: Kind
    effect: float
    score: float
    first: int
    last: int
    worst: int
    n_windows: int


@dataclass(frozen=True)
class Drift:
    """Comparison of windows with a reference.

    Attributes
    ----------
    counts
        The windows that were judged.
    effects, scores
        By series, shape (n_windows,); NaN where a window has too few values.
    usual
        By series; empty if the reference has too few windows to be calibrated.
    changes
        Series that alarm, the most striking first.
    n_small
        Windows with too few rows for their distributions to be compared.
    """

    counts: Counts
    effects: dict[Key, np.ndarray]
    scores: dict[Key, np.ndarray]
    usual: dict[Key, Usual]
    changes: tuple[Change, ...]
    n_small: int

    def list_pending(self) -> dict[str, list[int]]:
        """Return the windows that would alarm if the next one does the same, by the names of their series."""
        twice, _ = scale_thresholds(len(self.usual))
        pending: dict[str, list[int]] = {}
        for key, scores in self.scores.items():
            high = (scores > twice) & (self.effects[key] >= self.usual[key].floor)
            if found := self.counts.numbers[high].tolist():
                pending[name_series(key)] = found[-2:]
        return pending


def name_series(key: Key) -> str:
    """Return the name of a series in records."""
    return f"{key[1]}: {key[0]}" if key[0] else key[1]


def scale_thresholds(n_series: int) -> tuple[float, float]:
    """Return the thresholds of two windows in a row and of one, raised where more series are watched than usual.

    By the normal quantiles that a Bonferroni correction would use: 420 series raise them by a tenth.
    """

    def find_quantile(n: int) -> float:
        return NormalDist().inv_cdf(1 - 0.05 / (n * USUAL_WINDOWS))

    factor = max(1.0, find_quantile(max(n_series, 1)) / find_quantile(USUAL_SERIES))
    return TWICE * factor, ONCE * factor


def measure_drift(
    reference: Reference,
    counts: Counts,
    relations: Relations | None = None,
    *,
    pending: Mapping[str, Sequence[int]] | None = None,
    left_out: Collection[int] = (),
) -> Drift:
    """Compare windows with a reference.

    Parameters
    ----------
    counts
        Windows counted with the layout of the reference, complete ones only.
    relations
        How each number follows from the others; None compares no relations.
    pending
        Windows judged earlier that alarm if the next one does the same, see `Drift.list_pending`.
    left_out
        Windows that are not judged, such as holidays, with rows or without.
    """
    counts = fill_silent(reference, counts)
    counts = counts.take(~np.isin(counts.numbers, [*left_out]))
    effects = compute_series(reference, counts, relations, is_own=False)
    fewest = find_fewest(reference)
    n_small = int((counts.rows < fewest).sum())
    if not reference.is_calibrated:
        return Drift(counts, effects, {}, {}, (), n_small)
    own = reference.counts.take(reference.complete)
    usual = {
        key: describe_usual(values, find_floor(key, reference.layout))
        for key, values in compute_series(reference, own, relations, is_own=True).items()
    }
    growing = list_growing(reference)
    usual = {key: one for key, one in usual.items() if key[1] != "unseen values" or key[0] not in growing}
    scores = {key: one.score(effects[key]) for key, one in usual.items()}
    changes = find_changes(counts.numbers, effects, scores, usual, pending or {})
    return Drift(counts, effects, scores, usual, tuple(changes), n_small)


def find_floor(key: Key, layout: Mapping[str, Cells]) -> float:
    """Return the smallest effect of a series that counts."""
    name, kind = key
    return CATEGORY_FLOOR if kind == "distribution" and layout[name].kind == "category" else FLOORS[kind]


def find_fewest(reference: Reference) -> float:
    """Return the rows that a window needs: half of those of the smallest complete window of the reference."""
    rows = reference.counts.rows[reference.complete]
    return max(FEWEST_KNOWN, float(rows.min()) / 2) if len(rows) else FEWEST_KNOWN


def fill_silent(reference: Reference, counts: Counts) -> Counts:
    """Return the counts with an empty window for each that is absent between others; only windows of time can be."""
    if reference.windows.days is None or len(counts.numbers) < 2:
        return counts
    every = np.arange(counts.numbers[0], counts.numbers[-1] + 1)
    if not len(counts.numbers) < len(every) <= len(counts.numbers) + MOST_FILLED:
        return counts
    places = np.searchsorted(counts.numbers, every)
    is_silent = counts.numbers[places] != every
    filled = counts.take(places)
    filled.numbers[:] = every
    for values in (filled.rows, filled.moments, *(one for part in ("cells", "tails", "sums", "missing")
                                                  for one in getattr(filled, part).values())):  # fmt: skip
        values[is_silent] = 0
    for extremes in filled.extremes.values():
        extremes[is_silent] = (np.inf, -np.inf)
    return filled


def hold_out(values: np.ndarray, own: np.ndarray, groups: np.ndarray, own_groups: np.ndarray) -> np.ndarray:
    """Return the sum over all windows without those of the group of each, shape (n_own, …).

    Parameters
    ----------
    values
        All windows of the reference, shape (n_windows, …), and their groups.
    own
        Those to compare; only their number matters.
    """
    distinct, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(distinct), *values.shape[1:]), values.dtype)
    np.add.at(sums, places, values)
    found = values.sum(axis=0) - sums[np.searchsorted(distinct, own_groups)]
    assert len(found) == len(own)
    return np.asarray(found)


def compute_series(
    reference: Reference, counts: Counts, relations: Relations | None, *, is_own: bool
) -> dict[Key, np.ndarray]:
    """Return the effects of every series, shape (n_windows,).

    Parameters
    ----------
    is_own
        Whether the windows are those of the reference: each is then compared with the reference without its group.
    """
    windows, base = reference.windows, reference.counts
    groups, own_groups = windows.group(base.numbers), windows.group(counts.numbers)

    every = reference.everything or base
    every_group = windows.group(every.numbers)

    def refer(values: np.ndarray, groups: np.ndarray = groups) -> np.ndarray:
        if is_own:
            return hold_out(values, counts.rows, groups, own_groups)
        return np.broadcast_to(values.sum(axis=0), (len(counts.rows), *values.shape[1:]))

    made: dict[Key, np.ndarray] = {}
    n_reference, has_enough = refer(base.rows), counts.rows >= find_fewest(reference)
    for name, cells in reference.layout.items():
        share = counts.missing[name] / np.maximum(counts.rows, 1)
        expected = refer(base.missing[name]) / np.maximum(n_reference, 1)
        made[name, "missing values"] = mask_unknown(compute_share_change(share, expected), has_enough)
        if cells.is_open or cells.n_cells < 2:
            continue
        own, other = counts.cells[name], refer(base.cells[name])
        known = has_enough & (own.sum(axis=1) >= FEWEST_KNOWN)
        if cells.kind == "category":
            made[name, "distribution"] = mask_unknown(compute_jensen_shannon(own, other), known)
            seen = refer(every.cells[name], every_group)
            made[name, "unseen values"] = mask_unknown(compute_unseen_share(own, seen), known)
        elif not cells.sd:
            made[name, "distribution"] = mask_unknown(compute_changed_share(own), known)
        else:
            distances = compute_wasserstein(
                own,
                counts.tails[name],
                other,
                refer(base.tails[name]),
                edges=cells.edges,
                sd=cells.sd,
                is_discrete=cells.is_discrete,
            )
            made[name, "distribution"] = mask_unknown(distances, known)
    if relations is not None and len(relations.names) > 1:
        residuals = np.abs(relations.compute_residuals(counts.moments, counts.rows))
        made |= {
            (name, "relation"): mask_unknown(residuals[:, place], has_enough)
            for place, name in enumerate(relations.names)
        }
    if windows.days is not None:
        made["", "volume"] = compute_volume_change(counts.rows, expect_rows(reference, counts.numbers, is_own=is_own))
    return made


def mask_unknown(values: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Return values with NaN where they say nothing."""
    return np.where(is_known, values, np.nan)


def expect_rows(reference: Reference, numbers: np.ndarray, *, is_own: bool) -> np.ndarray:
    """Return the rows expected in windows: the median of the same weekday, shape (n_windows,)."""
    windows, chosen = reference.windows, reference.complete
    rows, base = reference.counts.rows[chosen], reference.counts.numbers[chosen]
    expected = np.zeros(len(numbers))
    for place, number in enumerate(numbers):
        alike = windows.weekday(base) == windows.weekday(number)
        if is_own:
            alike &= windows.group(base) != windows.group(number)
        found = rows[alike] if alike.any() else rows
        expected[place] = np.median(found) if len(found) else 0
    return expected


def describe_usual(effects: np.ndarray, floor: float) -> Usual:
    """Return how a series behaves: its median, and the larger of its standard deviation and that by its MAD."""
    known = effects[np.isfinite(effects)]
    if not len(known):
        return Usual(0.0, 0.0, floor)
    median = float(np.median(known))
    return Usual(median, max(float(known.std()), NORMAL_MAD * float(np.median(np.abs(known - median)))), floor)


def list_growing(reference: Reference) -> list[str]:
    """Return the categories to which new values are added by nature, such as the tail numbers of planes.

    In at least half of the windows of the reference's second half they have a value that no earlier window has. Unseen
    values of later windows are then no sign of a change: their share grows with the age of the reference.
    """
    found = []
    for name, cells in reference.layout.items():
        if cells.kind == "category" and not cells.is_open and cells.values:
            counts = reference.everything or reference.counts
            firsts = {*np.argmax(counts.cells[name][:, :-1] > 0, axis=0).tolist()}
            n_windows = len(counts.numbers)
            late = range(n_windows // 2, n_windows)
            if sum(place in firsts for place in late) >= len(late) / 2:
                found.append(name)
    return found


def find_changes(
    numbers: np.ndarray,
    effects: Mapping[Key, np.ndarray],
    scores: Mapping[Key, np.ndarray],
    usual: Mapping[Key, Usual],
    pending: Mapping[str, Sequence[int]],
) -> list[Change]:
    """Return the series that alarm, the most striking first."""
    twice, once = scale_thresholds(len(usual))
    found = []
    for key, score in scores.items():
        counts = effects[key] >= usual[key].floor
        high = counts & (score > twice)
        before = np.array([number - 1 in pending.get(name_series(key), ()) for number in numbers], bool)
        before[1:] |= high[:-1] & (np.diff(numbers) == 1)
        alarms = np.flatnonzero((high & before) | (counts & (score > once)))
        if len(alarms):
            worst = alarms[np.argmax(score[alarms])]
            first, last = int(numbers[alarms[0]]), int(numbers[alarms[-1]])
            effect, largest = float(min(effects[key][worst], LARGEST_SCORE)), float(score[worst])
            found.append(Change(*key, effect, largest, first, last, int(numbers[worst]), len(alarms)))
    return sorted(found, key=lambda change: (-change.score, change.column, change.kind))
