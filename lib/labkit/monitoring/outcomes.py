"""True values that become known after the prediction: by id, from the service, a file, or people who label rows.

They come late, for some rows only, twice, or for rows that nobody knows: all of that is counted, and nothing of it
stops a check.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from labkit import paths
from labkit.data.computed_columns import read_target
from labkit.data.labels.agreement import resolve_labels
from labkit.data.labels.bulk import find_first_judged
from labkit.data.labels.judgements import MODEL, read_judgements
from labkit.errors import DataError, MissingDataError, ParamsError, name_nearest
from labkit.features.arrays import make_category
from labkit.monitoring.current_rows import to_floats
from labkit.params.experiment import Params
from labkit.params.tables import Target
from labkit.serving.batch_files import FORMATS, load_column_names
from labkit.units import format_count

ID, TRUE = "id", "true"
"""Columns of a file with true values; the second may also have the name of the target."""
LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""Times of reports are from 0 to this, in seconds since 1970."""


@dataclass
class Outcomes:
    """True values by id.

    Attributes
    ----------
    key
        Column of the rows that holds the ids; empty for the ids of a log.
    values
        The latest true value of each id, as reported.
    reported
        When it was reported, seconds since 1970, where that is known.
    n_repeated, n_changed
        Values of ids that had one before, and those of them that differ from it.
    n_damaged
        Lines that cannot be read.
    n_ahead
        Values reported later than now, which are left out.
    n_chosen
        Labels of rows that people did not judge in random order, which are left out.
    """

    key: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    reported: dict[str, float] = field(default_factory=dict)
    n_repeated: int = 0
    n_changed: int = 0
    n_damaged: int = 0
    n_ahead: int = 0
    n_chosen: int = 0

    def add(self, id: str, value: Any, at: float | None = None) -> None:
        """Add a true value; a later one of the same id counts instead of it, and instead of when that was reported."""
        if id in self.values:
            self.n_repeated += 1
            self.n_changed += str(self.values[id]) != str(value)
        self.values[id] = value
        self.reported.pop(id, None)
        if at is not None:
            self.reported[id] = at

    def describe_faults(self) -> list[str]:
        """Return what is strange about the values as clauses."""
        counted = [
            (self.n_damaged, "damaged line", "skipped"),
            (self.n_changed, "true value", "changed later: the latest counts"),
            (self.n_ahead, "true value", "reported later than now left out"),
        ]
        return [f"{format_count(n, noun)} {what}" for n, noun, what in counted if n]

    def describe_remarks(self) -> list[str]:
        """Return what readers have to know, which is no fault."""
        n_equal = self.n_repeated - self.n_changed
        remarks = [f"{format_count(n_equal, 'true value')} reported again"] if n_equal else []
        if self.n_chosen:
            remarks.append(f"{format_count(self.n_chosen, 'label')} given out of the random order left out")
        return remarks


def load_feedback(path: Path, now: datetime) -> Outcomes:
    """Return the true values that were reported to the service; none if there is no such file."""
    found = Outcomes()
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            content = msgspec.json.decode(line, type=dict[str, Any])
            id, value, at = str(content["id"]), content["true"], read_report_time(content.get("time"))
        except (ValueError, KeyError):
            found.n_damaged += 1
            continue
        if at is not None and at > now.timestamp():
            found.n_ahead += 1
        elif value is not None:
            found.add(id, value, at)
    return found


def read_report_time(value: Any) -> float | None:
    """Return when a true value was reported, None if that is not known; raise ValueError if it cannot be a time."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise ValueError(f"{value!r} is not a time")
    return float(value)


def to_ids(values: pd.Series) -> pd.Series:
    """Return ids as strings, None where missing; 1, 1.0 and a column of strings like "1.0" are the same ids.

    >>> [to_ids(pd.Series(ids)).tolist() for ids in ([1.0, None], ["2.0", "10.0"], ["1.0", "b"])]
    [['1', None], ['2', '10'], ['1.0', 'b']]
    """
    ids = [make_category(value) for value in values.astype(object)]
    # With a missing value pandas writes a column of whole numbers with a fraction.
    if all(id is None or re.fullmatch(r"-?\d+\.0", id) for id in ids):
        ids = [id if id is None else id.removesuffix(".0") for id in ids]
    return pd.Series(ids, index=values.index, dtype=object)


def load_outcomes_file(path: Path, target: Target, *, key: str = ID) -> Outcomes:
    """Return the true values of a file with a column of ids, and one named `true` or like the target.

    Raises
    ------
    MissingDataError
        There is no such file.
    ParamsError
        It is neither CSV nor Parquet, or lacks a column.
    DataError
        It cannot be read.
    """
    if not path.is_file():
        raise MissingDataError(f"--outcomes {path}: no such file")
    if path.suffix not in FORMATS:
        raise ParamsError(f"--outcomes {path}: {path.suffix or 'no extension'}: use {' or '.join(FORMATS)}")
    try:
        names = load_column_names(path)
        value = next((name for name in (target.column, TRUE) if name in names), target.column)
        for name in (key, value):
            if name not in names:
                raise ParamsError(f"--outcomes {path}: no column {name!r}: {name_nearest(name, names)}")
        columns = [key, value]
        if path.suffix == ".parquet":
            arrow = pq.read_table(path, columns=columns, partitioning=None)
            table = arrow.to_pandas(ignore_metadata=True)
            # Not by pandas: with a missing value it rounds whole numbers to floats.
            table[key] = pd.Series(arrow[key].to_pylist(), dtype=object)
        else:
            table = pd.read_csv(path, usecols=columns, dtype=str)
    except (OSError, ValueError) as error:
        raise DataError(f"--outcomes {path}: cannot be read: {error}") from error
    read = read_target(table.rename(columns={value: target.column}), target)
    found = Outcomes(key)
    for id, true in zip(to_ids(read[key]), read[target.column], strict=True):
        if id is not None and pd.notna(true):
            found.add(id, true)
    return found


def list_label_keys(experiment: str, table: Path) -> list[str]:
    """Return the key columns by which people labelled rows of a table, the latest last; none without labels."""
    sources = dict.fromkeys(one.source for one in read_judgements(experiment).list_current())
    found = [one for one in sources if find_labelled_table(one) == table.resolve()]
    return [source.rpartition(":")[2] for source in found]


def load_labels(params: Params, table: Path, key: str, keys: pd.Series) -> Outcomes:
    """Return the labels that people gave to the rows at the beginning of the random order of a table.

    Other labelled rows are left out: they may have been chosen because the model was unsure.

    Parameters
    ----------
    key, keys
        Column that identifies rows, and its values, shape (n_rows,).
    """
    log = read_judgements(params.experiment)
    own = [one for one in log.list_current() if one.source.rpartition(":")[2] == key]
    own = [one for one in own if find_labelled_table(one.source) == table.resolve()]
    # As strings in two ways: as labels name their rows, and as true values are joined.
    keys = keys.dropna()
    names = keys.astype(str)
    ids = dict(zip(names, to_ids(keys), strict=True))
    measured = {*names.iloc[find_first_judged(names, own, params.seed)]}
    labels, _ = resolve_labels(one for one in own if one.annotator != MODEL)
    is_measured = labels["key"].isin(measured)
    found = Outcomes(key, n_damaged=len(log.faults), n_chosen=int((~is_measured).sum()))
    for id, true in labels.loc[is_measured, ["key", "label"]].itertuples(index=False):
        found.add(ids[id], true)
    return found


def find_labelled_table(source: str) -> Path:
    """Return the file of a table that labels belong to."""
    return (paths.find_root() / source.rpartition(":")[0]).resolve()


def encode_true_values(values: Iterable[Any], classes: tuple[Any, ...]) -> np.ndarray:
    """Return true values as numbers, or as codes of classes; NaN where they are neither, shape (n_rows,).

    >>> encode_true_values(["1", 0, 1.0, True, "x", None], (0, 1)).tolist()
    [1.0, 0.0, 1.0, 1.0, nan, nan]
    """
    given = list(values)
    if not classes:
        numbers = to_floats(given)
        return np.where(np.isfinite(numbers), numbers, np.nan)
    codes = {str(label): float(code) for code, label in enumerate(classes)}
    known = {str(value): find_class_code(value, codes) for value in given}
    return np.array([known[str(value)] for value in given], "float64")


def find_class_code(value: Any, codes: dict[str, float]) -> float:
    """Return the code of a class in any of the ways in which files and requests write it; NaN if it is none."""
    if str(value) in codes:
        return codes[str(value)]
    number = float(to_floats([value])[0])
    return codes.get(str(int(number)), np.nan) if number.is_integer() else np.nan
