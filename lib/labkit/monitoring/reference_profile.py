"""The reference profile of a release: what monitoring needs of the rows that the model was trained on.

It is written with the release, so that monitoring opens no table of the training. It holds counts, sums and digests, no
string of the data, and unless the params say otherwise a sample of rows for a domain classifier. Counts are kept per
window, such as a day, because a window is only judged against other windows of the same length: rows of one day share
its weather, so a day is one observation, however many its rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import DataError
from labkit.features.known_values import MOST_VALUES, make_digest
from labkit.features.row_computation import RowComputation
from labkit.monitoring.relations import Relations, fit_relations
from labkit.monitoring.row_batches import Batch, Coded, Column, Rows, list_compared, read_frame
from labkit.monitoring.row_sample import RowSample, Sampler, choose_quota
from labkit.monitoring.window_counts import NO_WINDOW, Cells, Counts, WindowCounter, Windows, list_varying

N_EDGES = 255
SHARES = (np.arange(N_EDGES) + 0.5) / N_EDGES
"""Shares of the rows below the edges: what lies beyond the outermost ones, half a cell's rows, is summed exactly."""
MOST_SAMPLED = 100_000
"""Rows of which the quantiles and the relations between columns are computed; counts are of all rows."""
MOST_WINDOWS = 400
"""Most windows that are kept apart, a year of days; older ones only count in their sum."""
FEWEST_ROWS, MOST_ROWS = 300, 20_000
"""Rows of a window at least: 99.9 % of Wasserstein distances without a change are then below 0.16 sd."""
FEWEST_WINDOWS = 20
"""Fewer windows do not show how much windows differ by themselves."""
LENGTHS = (1, 7, 28)
"""Days that a window may have."""
PREDICTION = "prediction"
HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class Reference:
    """Counts of reference rows by window.

    Attributes
    ----------
    has_older
        Whether the first window is the sum of all that are not kept apart.
    is_part
        Whether it is a choice of complete windows.
    everything
        The counts that they were chosen from; None if it is no choice. Values that occur there are not unseen.
    """

    windows: Windows
    layout: dict[str, Cells]
    counts: Counts
    has_older: bool = False
    is_part: bool = False
    everything: Counts | None = None

    @property
    def complete(self) -> np.ndarray:
        """Mask of the windows that are compared: the first and the last day may be incomplete, as may the last rows."""
        chosen = np.ones(len(self.counts.numbers), bool)
        if self.is_part:
            return chosen
        if self.windows.days is not None:
            chosen[[0, -1]] = False
        else:
            chosen = self.counts.rows >= self.windows.rows
        chosen[: int(self.has_older)] = False
        return chosen

    @property
    def is_calibrated(self) -> bool:
        """Whether there are enough windows to know how much they differ by themselves."""
        return int(self.complete.sum()) >= FEWEST_WINDOWS


@dataclass(frozen=True)
class Profile:
    """The reference profile of a release.

    Attributes
    ----------
    begin, end
        Times of the first and the last reference row in UTC; None without times.
    known_until
        Time of the latest row of the run, of its holdout too; growth is counted from there. None if unknown.
    fitted_rows
        Number of rows that the published model was fitted on, if it was refitted on all rows, up to `known_until`; None
        if it was not.
    quiet_hours
        Longest time without a row; None without times.
    inputs
        Counts of the model's raw columns.
    relations
        How each number follows from the others.
    predictions
        Counts of the model's predictions for rows that it was not trained on; None if there are none.
    sample
        Some rows of each window, for a domain classifier; None without, or with too few windows to be calibrated.
    """

    experiment: str
    n_rows: int
    begin: str | None
    end: str | None
    quiet_hours: int | None
    inputs: Reference
    relations: Relations
    predictions: Reference | None = None
    known_until: str | None = None
    sample: RowSample | None = None
    fitted_rows: int | None = None

    @property
    def fitted_until(self) -> str | None:
        """Time of the last row that the published model was trained on in UTC; None without times."""
        return self.end if self.fitted_rows is None else self.known_until

    @property
    def seen_until(self) -> np.datetime64 | None:
        """Time of the last row that the model was trained on or evaluated with, `datetime64[us]`; None without times.

        Of older releases only the last row of the training is known.
        """
        latest = self.known_until or self.end
        return np.datetime64(latest[:19], "us") if latest else None


@dataclass
class Scan:
    """What the first pass over the reference rows collects."""

    n_rows: int = 0
    step: int = 1
    sampled: list[dict[str, Any]] = field(default_factory=list)
    digests: dict[str, set[str]] = field(default_factory=dict)
    days: Counter[int] = field(default_factory=Counter)
    hours: set[int] = field(default_factory=set)
    begin: np.datetime64 | None = None
    end: np.datetime64 | None = None

    def add(self, batch: Batch, zone: str) -> None:
        """Add a batch: every `step`-th of its rows to the sample, which is thinned whenever it has become too large."""
        first = -self.n_rows % self.step
        self.sampled.append({name: thin_column(values, first, self.step) for name, values in batch.columns.items()})
        self.n_rows += batch.n_rows
        if self.n_rows // self.step > 2 * MOST_SAMPLED:
            self.step *= 2
            self.sampled = [{name: thin_column(values, 0, 2) for name, values in one.items()} for one in self.sampled]
        for name, values in batch.columns.items():
            if isinstance(values, Coded):
                seen = self.digests.setdefault(name, set())
                present = np.unique(values.codes[values.codes >= 0]).tolist()
                if len(seen) <= MOST_VALUES:
                    seen |= {make_digest(value) for code in present if (value := values.values[code]) is not None}
        if batch.times is not None and len(known := batch.times[~np.isnat(batch.times)]):
            numbers = Windows(1, 0, zone).assign(batch, 0)
            self.days.update(numbers[numbers != NO_WINDOW].tolist())
            self.hours.update(np.unique((known - np.datetime64(0, "us")) // HOUR).tolist())
            self.begin = known.min() if self.begin is None else min(self.begin, known.min())
            self.end = known.max() if self.end is None else max(self.end, known.max())

    def collect(self, name: str) -> np.ndarray:
        """Return the sampled numbers of a column, shape (n_sampled,); missing ones are NaN."""
        return np.concatenate([np.asarray(one[name], "float64") for one in self.sampled])


def thin_column(values: Column, first: int, step: int) -> Column:
    """Return every `step`-th value, from the position `first` on; categories are not needed."""
    return np.zeros(0) if isinstance(values, Coded) else values[first::step]


def count_reference(
    read: Rows, kinds: Mapping[str, str], zone: str, *, n_sampled: int = 0, seed: int = 0
) -> tuple[Reference, Scan, RowSample | None]:
    """Count reference rows by window, in two passes.

    Parameters
    ----------
    kinds
        Kind of each column, `number` or `category`.
    zone
        Time zone of the days.
    n_sampled, seed
        About how many rows to sample, and how they are drawn.

    Raises
    ------
    DataError
        There are no rows.
    """
    scan = Scan()
    for batch in read():
        scan.add(batch, zone)
    if not scan.n_rows:
        raise DataError("no rows to profile: the reference is empty")
    layout = {name: make_cells(scan, name, kind) for name, kind in kinds.items()}
    windows = choose_windows(scan, zone)
    last = (scan.n_rows - 1) // windows.rows if windows.days is None else max(number_days(scan.days, windows))
    oldest = last - MOST_WINDOWS
    n_windows = last + 1 if windows.days is None else len(number_days(scan.days, windows))
    quota = choose_quota(n_sampled, min(n_windows, MOST_WINDOWS), len(layout))
    sampler = Sampler(layout, quota, seed=seed) if quota else None
    counter, n_before, has_older = WindowCounter(layout), 0, False
    for batch in read():
        numbers = windows.assign(batch, n_before)
        is_older = (numbers != NO_WINDOW) & (numbers < oldest)
        has_older = has_older or bool(is_older.any())
        counter.add(batch.columns, np.where(is_older, oldest - 1, numbers))
        if sampler is not None:
            sampler.add(batch.columns, np.where(is_older, NO_WINDOW, numbers))
        n_before += batch.n_rows
    reference = Reference(windows, layout, counter.get_counts(), has_older)
    return reference, scan, sampler.get_sample() if sampler and reference.is_calibrated else None


def make_profile(
    experiment: str,
    read: Rows,
    row_features: RowComputation,
    *,
    zone: str = "UTC",
    read_predictions: Rows | None = None,
    n_sampled: int = 0,
    seed: int = 0,
) -> Profile:
    """Profile the rows that a model was trained on.

    Parameters
    ----------
    read
        Reads the training rows, see `labkit.monitoring.row_batches.read_frame`; it is called twice.
    zone
        Time zone of the days.
    read_predictions
        Reads rows that the model was not trained on, with its predictions for them. Those for training rows would be
        too confident to compare others with.
    n_sampled, seed
        See `count_reference`.

    Raises
    ------
    DataError
        There are no rows.
    """
    compared = list_compared(row_features)
    inputs, scan, sample = count_reference(read, compared, zone, n_sampled=n_sampled, seed=seed)
    numeric = list_varying(inputs.layout)
    standardized = {name: (scan.collect(name) - inputs.layout[name].mean) / inputs.layout[name].sd for name in numeric}
    quiet = None
    if scan.hours:
        hours = sorted(scan.hours)
        quiet = max((after - before for before, after in pairwise(hours)), default=1)
    predictions = None
    if read_predictions is not None:
        predictions = count_predictions(read_predictions, zone, inputs.windows)
    begin, end, relations = show_time(scan.begin), show_time(scan.end), fit_relations(standardized)
    return Profile(experiment, scan.n_rows, begin, end, quiet, inputs, relations, predictions, sample=sample)


def count_predictions(read: Rows, zone: str, windows: Windows) -> Reference | None:
    """Count predictions by windows like those of the inputs; None if there are none."""

    def read_them() -> Iterator[Batch]:
        for batch in read():
            if batch.predictions is not None:
                yield Batch(batch.n_rows, {PREDICTION: batch.predictions}, batch.times)

    first = next(read_them(), None)
    if first is None:
        return None
    kind = "category" if isinstance(first.columns[PREDICTION], Coded) else "number"
    scan = Scan()
    for batch in read_them():
        scan.add(batch, zone)
    counter, n_before = WindowCounter({PREDICTION: make_cells(scan, PREDICTION, kind)}), 0
    for batch in read_them():
        counter.add(batch.columns, windows.assign(batch, n_before))
        n_before += batch.n_rows
    return Reference(windows, counter.layout, counter.get_counts())


def make_cells(scan: Scan, name: str, kind: str) -> Cells:
    """Return the cells of a column."""
    if kind == "category":
        digests = scan.digests.get(name, set())
        is_open = len(digests) > MOST_VALUES
        return Cells(kind, values=() if is_open else tuple(sorted(digests)), is_open=is_open)
    known = scan.collect(name)
    known = known[np.isfinite(known)]
    if not len(known):
        return Cells(kind)
    distinct = np.unique(known)
    if len(distinct) == 1:
        edges = np.append(distinct, np.nextafter(distinct, np.inf))
        return Cells(kind, edges, mean=float(distinct[0]), is_discrete=True)
    is_discrete = len(distinct) <= N_EDGES
    edges = distinct if is_discrete else np.unique(np.quantile(known, SHARES, method="lower"))
    return Cells(kind, edges, (), float(known.mean()), float(known.std()), is_discrete)


def number_days(days: Mapping[int, int], windows: Windows) -> Counter[int]:
    """Return the rows of each window of several days."""
    assert windows.days is not None
    shift = 3 if windows.days > 1 else 0
    counted: Counter[int] = Counter()
    for day, n_rows in days.items():
        counted[(day + shift) // windows.days] += n_rows
    return counted


def choose_windows(scan: Scan, zone: str) -> Windows:
    """Return windows of a day, a week or four weeks, the shortest with enough rows, or of a number of rows."""
    if not scan.days:
        return Windows(None, int(np.clip(scan.n_rows // 100, FEWEST_ROWS, MOST_ROWS)), zone)
    for days in LENGTHS:
        windows = Windows(days, 0, zone)
        if np.median([*number_days(scan.days, windows).values()]) >= FEWEST_ROWS:
            break
    return windows


def choose_predictions(predicted: np.ndarray, facts: Mapping[str, Any]) -> Column:
    """Return what is compared of predictions: numbers, the probability of the positive class, or the likeliest class.

    Parameters
    ----------
    predicted
        Shape (n_rows,) or (n_rows, n_classes).
    facts
        Facts of the release.
    """
    classes = facts.get("classes") or []
    if not classes:
        return np.asarray(predicted, "float64")
    if facts.get("positive") is not None and len(classes) == 2:
        return np.asarray(predicted[:, classes.index(facts["positive"])], "float64")
    return Coded(predicted.argmax(axis=1), [str(label) for label in classes])


def profile_release(
    experiment: str,
    model: Any,
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    *,
    facts: Mapping[str, Any],
    zone: str = "UTC",
    n_sampled: int = 0,
    seed: int = 0,
) -> Profile:
    """Profile a model's training rows, and its predictions for the holdout.

    Parameters
    ----------
    model
        The fitted pipeline, whose first step are the row features.
    training, holdout
        Clean rows, shape (n_rows, n_columns).
    facts
        Facts of the release: `classes` and `positive`, and `refit` if the published model was refitted.
    n_sampled, seed
        See `count_reference`.
    """
    row_features = model[0]
    predicted = model.predict_proba(holdout) if facts.get("classes") else model.predict(holdout)
    column = choose_predictions(np.asarray(predicted), facts)
    profile = make_profile(
        experiment,
        lambda: read_frame(training, row_features),
        row_features,
        zone=zone,
        read_predictions=lambda: read_frame(holdout, row_features, predictions=column),
        n_sampled=n_sampled,
        seed=seed,
    )
    times = [one.times for one in read_frame(holdout, row_features) if one.times is not None]
    latest = np.concatenate([*times, np.array([profile.end[:19]], "datetime64[us]")]) if profile.end else None
    if refit := facts.get("refit"):
        profile = replace(profile, fitted_rows=refit["rows"])
    return profile if latest is None else replace(profile, known_until=show_time(np.nanmax(latest)))


def show_time(at: np.datetime64 | None) -> str | None:
    """Return a time in UTC as profiles have it."""
    return None if at is None else f"{at.astype('datetime64[s]')}+00:00"
