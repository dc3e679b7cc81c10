"""Predictions of a released model joined with the true values that are known by now."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.features.arrays import make_times
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.table_columns import to_array
from labkit.model.release.runtime import compute_release_digest
from labkit.monitoring.current_rows import Current, to_floats
from labkit.monitoring.outcomes import (
    Outcomes,
    encode_true_values,
    list_label_keys,
    load_feedback,
    load_labels,
    to_ids,
)
from labkit.monitoring.reference_performance import collect_columns, concat_columns, to_series
from labkit.monitoring.row_batches import Batch, Column
from labkit.monitoring.window_counts import take_rows
from labkit.params.experiment import Params
from labkit.serving.settings import FEEDBACK
from labkit.units import format_count

MOST_ROWS = 200_000
"""Latest rows of a log that are taken."""


@dataclass
class ScoredRows:
    """Rows that the released model has predicted.

    Attributes
    ----------
    output
        Predictions, shape (n_rows,) or (n_rows, n_classes).
    true
        True values, as numbers or codes of classes; NaN where none is known; shape (n_rows,).
    times
        When the rows were predicted, `datetime64[us]` in UTC, shape (n_rows,); None without times.
    requests
        Request that each row came with, shape (n_rows,); None for rows of a file.
    columns
        Cleaned columns of the rows with true values only, in their order.
    faults, remarks
        What is strange about the true values, and what readers have to know; clauses.
    groups
        Value of the split's group column of each row, shape (n_rows,); None if the rows do not have the column.
    is_cut
        Whether earlier rows of the log are left out.
    """

    output: np.ndarray
    true: np.ndarray
    times: np.ndarray | None = None
    requests: np.ndarray | None = None
    columns: Mapping[str, pd.Series] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    groups: pd.Series | None = None
    is_cut: bool = False

    @property
    def known(self) -> np.ndarray:
        """Positions of the rows with a true value."""
        return np.flatnonzero(~np.isnan(self.true))


def score_current(
    params: Params, current: Current, given: Outcomes | None, now: datetime, *, seen_until: np.datetime64 | None
) -> ScoredRows:
    """Join the predictions for the rows to monitor with true values.

    Those of a log are joined by the ids of its rows, with what was reported to the service, and with a file. A file has
    them itself, in the column of the target, or they are joined by a column: from another file, or from labels that
    people gave to its rows.

    Parameters
    ----------
    given
        True values of a file, see `labkit.monitoring.outcomes.load_outcomes_file`; None without one.
    seen_until
        Time of the last row that the model was made or evaluated with, in UTC; None without times. Rows of a file up to
        it are left out: such a file may be the whole table, and a model is too good on rows that trained it.
    """
    if current.is_log and current.path is not None:
        found = load_feedback(current.path.parent / FEEDBACK, now)
        known = found if given is None else merge_outcomes(found, given)
        return score_log(current, current.path, known, now, group=params.data.split.group)
    if current.frame is None or current.output is None:
        is_large = current.path is not None or (current.frame is not None and len(current.frame) > 0)
        return ScoredRows(np.empty(0), np.empty(0), remarks=["these rows were not predicted"] if is_large else [])
    if given is None and current.source is not None and params.data.target.column not in current.frame:
        by = [name for name in list_label_keys(params.experiment, current.source) if name in current.frame]
        given = load_labels(params, current.source, by[-1], current.frame[by[-1]]) if by else None
    return score_frame(params, current, given, now, seen_until=seen_until)


def merge_outcomes(reported: Outcomes, given: Outcomes) -> Outcomes:
    """Return the true values of both; those of the second count where both have one."""
    merged = replace(
        reported,
        values={**reported.values},
        reported={**reported.reported},
        n_damaged=reported.n_damaged + given.n_damaged,
    )
    merged.n_repeated, merged.n_changed = (
        first + second for first, second in ((merged.n_repeated, given.n_repeated), (merged.n_changed, given.n_changed))
    )
    for id, value in given.values.items():
        merged.add(id, value)
    return merged


def score_frame(
    params: Params,
    current: Current,
    outcomes: Outcomes | None,
    now: datetime,
    *,
    seen_until: np.datetime64 | None = None,
) -> ScoredRows:
    """Join the rows of a file; see `score_current`."""
    frame, output = current.frame, current.output
    assert frame is not None
    assert output is not None
    classes = tuple(current.release.facts.get("classes") or ())
    faults, remarks = [], []
    if outcomes is not None:
        ids = to_ids(frame[outcomes.key])
        is_twin = ids.duplicated(keep=False) & ids.isin(outcomes.values)
        found = ids.map(outcomes.values).astype(object).where(~is_twin, None)
        n_unknown = len(outcomes.values.keys() - {*ids})
        faults = [*outcomes.describe_faults(), *count_left_out(n_unknown, int(is_twin.sum()), 0)]
        remarks = outcomes.describe_remarks()
    elif params.data.target.column in frame:
        found = frame[params.data.target.column]
    else:
        found = pd.Series(None, index=frame.index, dtype=object)
    times = take_prediction_times(frame)
    if times is not None:
        kept = times <= np.datetime64(now.replace(tzinfo=None), "us")
        if seen_until is not None:
            # Seconds, as in the profile.
            is_new = times.astype("datetime64[s]") > seen_until
            remarks = [*remarks, *describe_seen(int((kept & ~is_new).sum()))]
            kept &= is_new
        frame, output, found, times = frame[kept], output[kept], found[kept], times[kept]
    true, n_unreadable = encode_known(found, classes)
    faults += describe_unreadable(n_unreadable, classes)
    columns = collect_columns(frame[~np.isnan(true)], current.release.row_features)
    groups = frame.get(params.data.split.group) if params.data.split.group else None
    return ScoredRows(output, true, times, columns=columns, faults=faults, remarks=remarks, groups=groups)


def take_prediction_times(frame: pd.DataFrame) -> np.ndarray | None:
    """Return when the rows of a table were predicted; None without such a column."""
    return make_times(to_array(frame[PREDICT_AT]), PREDICT_AT) if PREDICT_AT in frame else None


def encode_known(found: pd.Series, classes: tuple[Any, ...]) -> tuple[np.ndarray, int]:
    """Return true values as numbers or codes, and how many are neither and not missing."""
    values = found.astype(object).where(found.notna(), None).tolist()
    true = encode_true_values(values, classes)
    return true, sum(value is not None and np.isnan(code) for value, code in zip(values, true, strict=True))


def describe_unreadable(n_rows: int, classes: tuple[Any, ...]) -> list[str]:
    """Return how many true values are of the wrong kind, as a clause."""
    what = "of no class that the model knows" if classes else "that is not a number"
    return [f"{format_count(n_rows, 'true value')} {what} left out"] if n_rows else []


def describe_seen(n_rows: int) -> list[str]:
    """Return how many rows are not new to the model, as a clause."""
    return (
        [f"{format_count(n_rows, 'row')} from before the end of the run that made the model left out"] if n_rows else []
    )


def count_left_out(n_unknown: int, n_twins: int, n_early: int) -> list[str]:
    """Return how many true values could not be joined, as clauses."""
    counted = [
        (n_unknown, "true value", "for ids that no row has"),
        (n_twins, "row", "with an id that others have as well left out"),
        (n_early, "true value", "reported before the prediction left out"),
    ]
    return [f"{format_count(n, noun)} {what}" for n, noun, what in counted if n]


@dataclass
class LogReader:
    """Collects the rows of a log that this release predicted.

    Attributes
    ----------
    ids, other_ids
        Ids of its rows, and those with a true value of rows of other releases.
    n_twins
        Rows with an id that came before.
    n_early
        True values reported before the row was predicted.
    """

    current: Current
    outcomes: Outcomes
    now: datetime
    ids: set[str] = field(default_factory=set)
    other_ids: set[str] = field(default_factory=set)
    n_twins: int = 0
    n_early: int = 0

    def take(self, batch: Batch, digest: str) -> tuple[np.ndarray, list[str], ScoredRows]:
        """Return the rows of a batch to keep: positions, ids, and predictions with true values as reported."""
        lines, times = batch.lines or (), batch.times
        assert times is not None
        until = np.datetime64(self.now.replace(tzinfo=None), "us")
        kept = []
        for place, line in enumerate(lines):
            id = str(line.get("id"))
            if line.get("digest") != digest:
                if id in self.outcomes.values:
                    self.other_ids.add(id)
            elif id in self.ids:
                self.n_twins += 1
            else:
                self.ids.add(id)
                if not np.isnat(times[place]) and times[place] <= until:
                    kept.append(place)
        classes = tuple(self.current.release.facts.get("classes") or ())
        output = read_outputs([lines[place] for place in kept], classes)
        is_known = np.isfinite(output).reshape(len(kept), -1).all(axis=1)
        rows = np.array(kept, dtype=int)[is_known]
        ids = [str(lines[place].get("id")) for place in rows]
        given = [self.find_true(id, times[place]) for id, place in zip(ids, rows, strict=True)]
        true = np.array(given, dtype=object)
        requests = np.array([id.rpartition("-")[0] for id in ids], dtype=object)
        return rows, ids, ScoredRows(output[is_known], true, times[rows], requests)

    def forget(self, ids: Iterable[str]) -> None:
        """Drop ids of rows that are left out, but for those with a true value, so that memory stays bounded."""
        self.ids.difference_update(id for id in ids if id not in self.outcomes.values)

    def find_true(self, id: str, time: np.datetime64) -> Any:
        """Return the true value of a row; None without one, and if it was reported before the row was predicted."""
        at = self.outcomes.reported.get(id)
        if at is not None and np.datetime64(int(at * 1e6), "us") < time:
            self.n_early += 1
            return None
        return self.outcomes.values.get(id)


@dataclass
class LogPart:
    """Rows of one batch of a log: ids, predictions, cleaned columns of those with true values, values left out."""

    ids: list[str]
    scored: ScoredRows
    columns: Mapping[str, Column]
    n_unreadable: int
    n_early: int


def score_log(
    current: Current, folder: Path, outcomes: Outcomes, now: datetime, *, group: str | None = None
) -> ScoredRows:
    """Join the rows of a log; see `score_current`.

    Parameters
    ----------
    group
        The split's group column; None without one.
    """
    digest = compute_release_digest(current.release.folder)
    reader = LogReader(current, outcomes, now)
    parts: deque[LogPart] = deque()
    n_rows, is_cut, classes = 0, False, tuple(current.release.facts.get("classes") or ())
    # Its own counts of what cannot be read: those of the check are made by another pass.
    for batch in Current(current.name, True, current.release, path=folder).read():
        n_early = reader.n_early
        rows, ids, scored = reader.take(batch, digest)
        scored.true, n_unreadable = encode_known(pd.Series(scored.true, dtype=object), classes)
        if group is not None and group in batch.columns:
            scored.groups = to_series(take_rows(batch.columns[group], rows))
        known = rows[~np.isnan(scored.true)]
        columns = {name: take_rows(values, known) for name, values in batch.columns.items()}
        parts.append(LogPart(ids, scored, columns, n_unreadable, reader.n_early - n_early))
        n_rows += len(ids)
        while n_rows - len(parts[0].ids) >= MOST_ROWS:
            dropped, is_cut = parts.popleft(), True
            n_rows -= len(dropped.ids)
            reader.forget(dropped.ids)
    n_unknown = len(outcomes.values.keys() - reader.ids - reader.other_ids)
    faults = [
        *outcomes.describe_faults(),
        *count_left_out(n_unknown, reader.n_twins, sum(part.n_early for part in parts)),
    ]
    faults += describe_unreadable(sum(part.n_unreadable for part in parts), classes)
    remarks = outcomes.describe_remarks()
    if n_others := len((outcomes.values.keys() & reader.other_ids) - reader.ids):
        remarks.append(f"{format_count(n_others, 'true value')} for a row of another release")
    if not parts:
        return ScoredRows(np.empty(0), np.empty(0), faults=faults, remarks=remarks)
    every = [part.scored for part in parts]
    groups = [one.groups for one in every if one.groups is not None]
    return ScoredRows(
        np.concatenate([one.output for one in every]),
        np.concatenate([one.true for one in every]),
        np.concatenate([one.times for one in every if one.times is not None]),
        np.concatenate([one.requests for one in every if one.requests is not None]),
        concat_columns([part.columns for part in parts]),
        faults,
        remarks,
        pd.concat(groups, ignore_index=True) if groups else None,
        is_cut,
    )


def read_outputs(lines: list[Mapping[str, Any]], classes: tuple[Any, ...]) -> np.ndarray:
    """Return logged predictions, shape (n_rows,) or (n_rows, n_classes); NaN where there are none."""
    if not classes:
        return to_floats([line.get("prediction") for line in lines])
    shares = [line.get("probabilities") for line in lines]
    by_class = [
        to_floats([share.get(str(label)) if isinstance(share, dict) else None for share in shares]) for label in classes
    ]
    return np.column_stack(by_class)
