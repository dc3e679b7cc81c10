"""The rows to monitor: a file, a table in memory, or the log of predictions of the service.

Faults of the rows are collected and reported; only a source that cannot be opened at all is an error.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit import paths
from labkit.errors import DataError, ParamsError, list_briefly, name_nearest
from labkit.features.arrays import make_objects, make_times
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.parse_text import read_date
from labkit.features.row_computation import RowComputation
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import CONTRACT, compute_release_digest
from labkit.monitoring.reference_profile import choose_predictions
from labkit.monitoring.row_batches import Batch, Coded, Column, clean_column, list_compared, read_frame, read_parquet
from labkit.monitoring.window_counts import take_rows
from labkit.names import PROBABILITY
from labkit.params.experiment import Params
from labkit.serving.batch_files import PREDICTION
from labkit.serving.batch_input import list_needed, load_header, load_rows
from labkit.serving.prediction_log import SUFFIX, iterate_lines
from labkit.serving.settings import LOG
from labkit.units import format_count

LOG_ROWS = 10_000
"""Lines of a log that are read at once."""
MOST_PREDICTED = 200_000
"""Rows of a file that are also predicted; larger Parquet files are only counted, as a stream."""


@dataclass
class Current:
    """Rows to monitor.

    Attributes
    ----------
    name
        The file or folder, as shown.
    is_log
        Whether they are a log of predictions, which goes on.
    output
        What the model predicts for the rows of `frame`, see `labkit.model.release.bundle.Release.predict`; None for
        other rows.
    source
        The file; None for other rows.
    faults
        Violations of the contract, one sentence each, without a full stop; complete once all rows are read.
    notes
        What else is remarkable about the source.
    damaged
        Lines, or whole files, of a log that could not be read, by file.
    n_unfit
        Rows of a log that another release predicted and that do not have the columns of this one.
    """

    name: str
    is_log: bool
    release: Release
    frame: pd.DataFrame | None = None
    predictions: Column | None = None
    output: np.ndarray | None = None
    source: Path | None = None
    path: Path | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damaged: dict[str, int] = field(default_factory=dict)
    n_unfit: int = 0

    def read(self) -> Iterator[Batch]:
        """Yield the rows in batches."""
        row_features = self.release.row_features
        if self.is_log and self.path is not None:
            yield from self.read_log(self.path)
        elif self.frame is not None:
            yield from self.guard(read_frame(self.frame, row_features, predictions=self.predictions))
        elif self.path is not None:
            yield from self.guard(read_parquet(self.path, row_features))

    def guard(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches until one cannot be read or holds a value of the wrong kind, which is a fault."""
        try:
            yield from batches
        except DataError as error:
            self.faults.append(str(error))
        except (pa.ArrowException, OSError):
            self.faults.append(f"{self.name}: damaged: copy it again")

    def read_log(self, folder: Path) -> Iterator[Batch]:
        """Yield the rows of a log: values of the wrong kind are missing, and faults of the release that logged them.

        Rows of another release count if they fit the columns of this one.
        """
        entries = iterate_lines(folder, self.damaged)
        errors: dict[str, list[str]] = {}
        digest, row_features = compute_release_digest(self.release.folder), self.release.row_features
        names = list_compared(row_features)
        while lines := list(islice(entries, LOG_ROWS)):
            whole = [line for line in lines if isinstance(line.get("inputs"), dict) and "time" in line]
            if len(whole) < len(lines):
                self.damaged["lines without inputs"] = (
                    self.damaged.get("lines without inputs", 0) + len(lines) - len(whole)
                )
            is_own = np.array([line.get("digest") == digest for line in whole], bool)
            fits = is_own | np.array([line["inputs"].keys() >= names.keys() for line in whole], bool)
            columns: dict[str, Column] = {}
            for name in names:
                values = make_objects([line["inputs"].get(name) for line in whole])
                columns[name], found = clean_logged(row_features, name, values)
                errors.setdefault(name, []).extend(error for row, error in found.items() if is_own[row])
                fits[[row for row in found if not is_own[row]]] = False
            kept = [line for line, is_fit in zip(whole, fits, strict=True) if is_fit]
            self.n_unfit += len(whole) - len(kept)
            columns = {name: take_rows(values, fits) for name, values in columns.items()}
            times = read_log_times([line["time"] for line in kept])
            yield Batch(len(kept), columns, times, choose_logged(kept, self.release.facts, digest), kept)
        self.faults += [f"{found[0]} ({format_count(len(found), 'row')})" for found in errors.values() if found]
        if self.n_unfit:
            rows = format_count(self.n_unfit, "row")
            self.notes.append(f"{rows} of another release, with other columns, left out")


def clean_logged(row_features: RowComputation, name: str, values: np.ndarray) -> tuple[Column, dict[int, str]]:
    """Return a column of a log, values of the wrong kind as missing, and by row what is wrong with them."""
    try:
        return clean_column(row_features, name, values), {}
    except DataError:
        known: dict[str, str | None] = {}
        for value in values.tolist():
            if repr(value) not in known:
                known[repr(value)] = find_value_error(row_features, name, value)
        faults = {row: known[repr(value)] for row, value in enumerate(values.tolist())}
        found = {row: fault for row, fault in faults.items() if fault is not None}
        values[[*found]] = None
        return clean_column(row_features, name, values), found


def find_value_error(row_features: RowComputation, name: str, value: Any) -> str | None:
    """Return what is wrong with one raw value; None if it is of the right kind."""
    try:
        clean_column(row_features, name, make_objects([value]))
    except DataError as error:
        return str(error)
    return None


def read_log_times(times: list[Any]) -> np.ndarray:
    """Return the times of log lines, shape (n_rows,); NaT where one cannot be read."""
    try:
        return make_times(make_objects(times), "time")
    except DataError:
        return np.array([read_date(time, None) if isinstance(time, str) else None for time in times], "datetime64[us]")


def choose_logged(lines: list[dict[str, Any]], facts: Mapping[str, Any], digest: str) -> Column | None:
    """Return the logged predictions of this release, missing for rows that another one predicted."""
    own = [line if line.get("digest") == digest else {} for line in lines]
    positive = facts.get("positive")
    if not facts.get("classes"):
        return to_floats([line.get("prediction") for line in own])
    if positive is not None:
        shares = [line.get("probabilities") for line in own]
        return to_floats([share.get(str(positive)) if isinstance(share, dict) else None for share in shares])
    given = [line.get("prediction") for line in own]
    codes, distinct = pd.factorize(make_objects([one if isinstance(one, str | int | float) else None for one in given]))
    return Coded(codes, [str(label) for label in distinct])


def to_floats(values: list[Any]) -> np.ndarray:
    """Return values as numbers, shape (n_rows,); NaN where they are none."""
    return np.asarray(pd.to_numeric(pd.Series(values, dtype=object), errors="coerce"), "float64")


def find_predictions(frame: pd.DataFrame, facts: Mapping[str, Any]) -> Column | None:
    """Return predictions that a table has in the columns that `labkit predict` writes; None if it has none."""
    classes = facts.get("classes") or []
    names = [f"{PROBABILITY}{label}" for label in classes]
    if names and all(name in frame for name in names):
        return choose_predictions(frame[names].to_numpy("float64"), facts)
    if not classes and PREDICTION in frame:
        return to_floats(frame[PREDICTION].tolist())
    return None


def open_current(
    params: Params, release: Release, source: Path | None, *, keys: Sequence[str] = (), required: str = ""
) -> Current:
    """Open the rows to monitor.

    Parameters
    ----------
    source
        A file like those of `labkit predict`, a folder with a log of predictions, or None for the log of the service.
    keys
        Columns that identify rows, of which a file may have some; they are read as strings.
    required
        One of them that it has to have; empty for none.

    Raises
    ------
    ParamsError
        There is no log, or the folder has none.
    MissingDataError, DataError
        The file does not exist or cannot be opened.
    """
    if source is None or source.is_dir():
        folder = source or paths.find_serving_dir(params.experiment) / LOG
        if not any(folder.glob(f"*{SUFFIX}")):
            what = f"{paths.show_path(folder)}: no log of predictions"
            raise ParamsError(f"{what}: serve the model with `labkit serve`, or name a file with --current")
        return Current(paths.make_printable_name(paths.show_path(folder)), True, release, path=folder)
    return open_rows(params, release, source, keys=keys, required=required)


def open_rows(params: Params, release: Release, source: Path, *, keys: Sequence[str], required: str) -> Current:
    """Open a file with rows; see `open_current`."""
    names = load_header(source, params)
    if required and required not in names:
        where = paths.make_printable_name(str(source))
        raise ParamsError(f"{where}: no column {required!r} to join true values by: {name_nearest(required, names)}")
    inputs = dict(release.row_features.inputs_)
    wanted = {**inputs, PREDICT_AT: "time"} if params.data.time is not None else inputs
    absent = [
        name
        for name, kind in wanted.items()
        if any(one not in names for one in list_needed(params, {name: kind}, names))
    ]
    current = Current(paths.make_printable_name(str(source)), False, release, source=source)
    if absent:
        current.faults.append(f"missing columns: {list_briefly(map(repr, absent))}")
    known = list_known(params, release)
    if new := [name for name in names if name not in known]:
        current.notes.append(f"new columns, which the model does not use: {list_briefly(map(repr, new))}")
    taken = {name: kind for name, kind in wanted.items() if name not in absent}
    if is_direct(source, taken, release.row_features):
        current.path = source
        return current
    current.frame = pd.DataFrame()
    try:
        labels = {**release.row_features.categories_, params.data.target.column: release.facts.get("classes") or []}
        kept = [name for name in keys if name in names]
        current.frame = load_rows(source, params, taken, labels=labels, keep=kept)
        if not absent and 0 < len(current.frame) <= MOST_PREDICTED:
            current.output = release.predict(current.frame)
            current.predictions = choose_predictions(current.output, release.facts)
    except DataError as error:
        current.faults.append(paths.make_printable_name(str(error)))
    return current


def take_frame(release: Release, frame: pd.DataFrame, name: str = "table") -> Current:
    """Return a table in memory as rows to monitor; columns `prediction` or `probability_…` are its predictions."""
    absent = [one for one in list_compared(release.row_features) if one not in frame]
    faults = [f"missing columns: {list_briefly(map(repr, absent))}"] if absent else []
    return Current(name, False, release, frame=frame, predictions=find_predictions(frame, release.facts), faults=faults)


def list_known(params: Params, release: Release) -> set[str]:
    """Return the columns that rows may have: those of the main raw table, of the joined table, and of predictions."""
    from labkit.data.contract import load_contract

    known = {*release.row_features.inputs_, *params.wrangling.drop, params.data.target.column, PREDICT_AT}
    known |= {*json.loads((release.folder / CONTRACT).read_text(encoding="utf-8")).get("columns", {})}
    path = paths.find_data_dir(params.experiment) / CONTRACT
    if path.is_file():
        known |= {str(name) for name in load_contract(path)[params.data.main_table].columns}
    return known | {PREDICTION, *(f"{PROBABILITY}{label}" for label in release.facts.get("classes") or [])}


def is_direct(source: Path, wanted: Mapping[str, str], row_features: RowComputation) -> bool:
    """Return whether a file is large, and Parquet with columns of the kinds that the model takes, to be streamed."""
    if source.suffix != ".parquet" or pq.read_metadata(source).num_rows <= MOST_PREDICTED:
        return False
    schema = pq.read_schema(source)
    typed = {name for name, rule in (row_features.rules or {}).items() if rule.get("type")}
    return all(
        name in schema.names and (name in typed or fits_kind(schema.field(name).type, kind))
        for name, kind in wanted.items()
    )


def fits_kind(type: pa.DataType, kind: str) -> bool:
    """Return whether a column of a Parquet file is of a kind as it is."""
    if kind == "time":
        return bool(pa.types.is_timestamp(type))
    if kind == "category":
        value = type.value_type if pa.types.is_dictionary(type) else type
        return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
    return bool(pa.types.is_boolean(type) or pa.types.is_integer(type) or pa.types.is_floating(type))


def load_ranges(release: Release) -> dict[str, tuple[float, float]]:
    """Return the plausible range of each number, by the contract of the release; see `labkit.data.contract`."""
    columns = json.loads((release.folder / CONTRACT).read_text(encoding="utf-8")).get("columns", {})
    bounds = {
        name: (one.get("greater_than_or_equal_to", -np.inf), one.get("less_than_or_equal_to", np.inf))
        for name, one in columns.items()
    }
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items() if (low, high) != (-np.inf, np.inf)}
