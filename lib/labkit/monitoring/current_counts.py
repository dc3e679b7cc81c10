"""One pass over the rows to monitor: the counts of their windows, and what is wrong with single rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from labkit.monitoring.current_rows import Current, load_ranges
from labkit.monitoring.reference_profile import PREDICTION, Profile, Reference
from labkit.monitoring.row_batches import Batch, Coded, Column
from labkit.monitoring.row_sample import RowSample, Sampler
from labkit.monitoring.window_counts import NO_WINDOW, Counts, WindowCounter, Windows

TOLERATED_AHEAD = np.timedelta64(1, "h")
"""How far a clock may be ahead."""


@dataclass
class Counted:
    """What one pass over the rows gives.

    Attributes
    ----------
    n_ahead, n_timeless
        Rows that were left out: later than now, and without a time although the reference has times.
    n_later
        Rows later than those of the run that trained the model.
    last
        Time of the latest row that is not later than now.
    inputs, predictions
        Counts by window.
    sample
        Some rows of each window, as many as the profile has; None if it has none.
    values
        By column and window, rows that have the column, those with a known value, and those with a value outside the
        plausible range, shape (3,); `NO_WINDOW` has the rows without a window.
    unseen
        By column, rows by value that the reference does not have.
    """

    n_rows: int = 0
    n_ahead: int = 0
    n_timeless: int = 0
    n_later: int = 0
    last: np.datetime64 | None = None
    inputs: Counts | None = None
    predictions: Counts | None = None
    sample: RowSample | None = None
    values: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    unseen: dict[str, dict[str, int]] = field(default_factory=dict)

    def add_values(
        self, columns: Mapping[str, Column], numbers: np.ndarray, ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        """Count the values of a batch by the window of each row."""
        windows, places = np.unique(numbers, return_inverse=True)
        for name, values in columns.items():
            low, high = ranges.get(name, (-np.inf, np.inf))
            is_known = find_known(values)
            is_outside = np.zeros(len(numbers), bool) if isinstance(values, Coded) else (values < low) | (values > high)
            n_each = [np.bincount(places[chosen], minlength=len(windows)) for chosen in (is_known, is_outside)]
            counted = np.column_stack([np.bincount(places, minlength=len(windows)), *n_each])
            total = self.values.setdefault(name, {})
            for number, counts in zip(windows.tolist(), counted, strict=True):
                total[number] = total.get(number, 0) + counts

    def sum_values(self, first: int | None) -> dict[str, np.ndarray]:
        """Return the counts of `values` by column, summed from a window on, or over all rows."""
        chosen = {
            name: [counts for number, counts in found.items() if first is None or number >= first]
            for name, found in self.values.items()
        }
        return {name: np.sum(counts, axis=0) for name, counts in chosen.items() if counts}


def count_current(current: Current, profile: Profile, now: datetime) -> Counted:
    """Count the rows to monitor in one pass; rows later than now are left out."""
    windows, found = profile.inputs.windows, Counted()
    inputs = WindowCounter(profile.inputs.layout)
    predictions = WindowCounter(profile.predictions.layout) if profile.predictions else None
    sampler = Sampler(profile.inputs.layout, profile.sample.quota, seed=0) if profile.sample else None
    ranges, latest = load_ranges(current.release), np.datetime64(now.replace(tzinfo=None), "us")
    end = profile.seen_until
    for batch in current.read():
        numbers = windows.assign(batch, found.n_rows)
        found.n_rows += batch.n_rows
        if batch.times is not None:
            is_ahead = batch.times > latest + TOLERATED_AHEAD
            numbers = np.where(is_ahead, NO_WINDOW, numbers)
            found.n_ahead += int(is_ahead.sum())
            usable = batch.times[~is_ahead & ~np.isnat(batch.times)]
            if len(usable):
                found.last = max(usable.max(), found.last) if found.last is not None else usable.max()
                found.n_later += int((usable > end).sum()) if end is not None else 0
        if windows.days is not None:
            found.n_timeless += batch.n_rows if batch.times is None else int(np.isnat(batch.times).sum())
        found.add_values(batch.columns, numbers, ranges)
        inputs.add(batch.columns, numbers)
        if sampler is not None:
            sampler.add(batch.columns, numbers)
        if predictions is not None and batch.predictions is not None:
            predictions.add({PREDICTION: batch.predictions}, numbers)
    found.inputs, found.unseen = inputs.get_counts(), inputs.unseen
    found.predictions = predictions.get_counts() if predictions is not None and predictions.windows else None
    found.sample = sampler.get_sample() if sampler is not None else None
    return found


def find_known(values: Column) -> np.ndarray:
    """Return a mask of the values that are not missing, shape (n_rows,)."""
    if not isinstance(values, Coded):
        return np.isfinite(values)
    return np.array([*(value is not None for value in values.values), False], bool)[values.codes]


def choose_windows_to_judge(counts: Counts, reference: Reference, current: Current, now: datetime, most: int) -> Counts:
    """Return the windows to judge: complete ones, and of them the latest `most` if that is not 0."""
    if reference.windows.days is None:
        least = min(reference.windows.rows, int(counts.rows.max())) / 2 if len(counts.rows) else 0
        chosen = counts.rows > least
    else:
        today = make_window_number(reference.windows, now)
        chosen = counts.numbers < today
        if current.is_log and len(counts.numbers) > 1:
            chosen[0] = False  # the service started, or older files were removed, at some time of that day
    places = np.flatnonzero(chosen)
    return counts.take(places[-most:] if most else places)


def make_window_number(windows: Windows, at: datetime) -> int:
    """Return the number of the window that a time is in."""
    times = np.array([np.datetime64(at.replace(tzinfo=None), "us")])
    return int(windows.assign(Batch(1, {}, times), 0)[0])
