"""Rows in batches, cleaned by a model's row rules, as monitoring counts them.

Memory does not depend on the number of rows of a Parquet file: it is read by row groups and without pre-buffering,
which would keep whole columns, and strings come as codes into a dictionary, so each distinct value is cleaned once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit.features.arrays import make_times
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_computation import RowComputation
from labkit.features.table_columns import find_column_kind, to_array

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Coded:
    """A categorical column: `codes` into `values`, shape (n_rows,); -1 is a missing value."""

    codes: np.ndarray
    values: Sequence[str | None]

    def take(self, rows: np.ndarray | slice) -> "Coded":
        """Return some of the rows."""
        return Coded(self.codes[rows], self.values)


Column = np.ndarray | Coded
"""Numbers as float64, shape (n_rows,), missing ones as NaN; or categories."""


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Attributes
    ----------
    columns
        Cleaned columns that are compared; those of times are left out.
    times
        When the rows were predicted, `datetime64[us]` in UTC, shape (n_rows,); None without times.
    predictions
        Column to compare with the predictions of the release, see `labkit.monitoring.reference_profile`.
    lines
        The lines of the log that the rows are from, n_rows of them; None for other rows.
    """

    n_rows: int
    columns: Mapping[str, Column]
    times: np.ndarray | None = None
    predictions: Column | None = None
    lines: Sequence[Mapping[str, Any]] | None = None


Rows = Callable[[], Iterator[Batch]]
"""Begins to read rows, each time from the first one."""


def list_compared(row_features: RowComputation) -> dict[str, str]:
    """Return the raw columns of a model that can be compared, with their kinds, `number` or `category`.

    The kinds are those of the released model. They are never inferred from the rows to monitor, in which a few distinct
    numbers would look like categories. Times are left out: they move on by nature.
    """
    kinds = {"number": "number", "boolean": "number", "category": "category"}
    return {name: kinds[kind] for name, kind in row_features.inputs_.items() if kind in kinds}


def clean_column(row_features: RowComputation, name: str, values: Column) -> Column:
    """Return a raw column after the model's row rules; of categories each distinct value is cleaned once.

    Raises
    ------
    DataError
        A value is of another kind.
    """
    if not isinstance(values, Coded):
        cleaned = row_features.clean_column(name, values)
        return code_strings(cleaned) if cleaned.dtype == object else cleaned
    distinct = row_features.clean_column(name, np.array([*values.values, None], object)[:-1])
    if distinct.dtype != object:
        return np.append(distinct, np.nan)[values.codes]
    return Coded(values.codes, distinct.tolist())


def code_strings(values: np.ndarray) -> Coded:
    """Return strings as codes; None is missing."""
    codes, distinct = pd.factorize(values)
    return Coded(codes, distinct.tolist())


def read_frame(
    frame: pd.DataFrame, row_features: RowComputation, *, predictions: Column | None = None
) -> Iterator[Batch]:
    """Yield the rows of a table in batches; compared columns that it lacks are left out.

    Parameters
    ----------
    frame
        Raw or clean rows, shape (n_rows, n_columns).
    predictions
        Predictions of the rows, shape (n_rows,).

    Raises
    ------
    DataError
        A value is of another kind than the model takes.
    """
    names = [name for name in list_compared(row_features) if name in frame.columns]
    for start in range(0, len(frame), BATCH_ROWS):
        part = frame.iloc[start : start + BATCH_ROWS]
        columns = {name: clean_column(row_features, name, take_values(part[name])) for name in names}
        times = make_times(to_array(part[PREDICT_AT]), PREDICT_AT) if PREDICT_AT in part.columns else None
        rows = slice(start, start + BATCH_ROWS)
        taken = predictions.take(rows) if isinstance(predictions, Coded) else predictions
        yield Batch(len(part), columns, times, taken[rows] if isinstance(taken, np.ndarray) else taken)


def take_values(values: pd.Series) -> Column:
    """Return a column of a table: categories as codes, others as an array."""
    if find_column_kind(values) != "category":
        return to_array(values)
    codes, distinct = pd.factorize(values)
    return Coded(codes, [*distinct])


def read_parquet(path: Path, row_features: RowComputation) -> Iterator[Batch]:
    """Yield the rows of a Parquet file in batches; see `read_frame`."""
    kinds = row_features.inputs_
    with open_parquet(path, kinds) as file:
        found = file.schema_arrow.names
        names = [name for name in list_compared(row_features) if name in found]
        timed = [PREDICT_AT] if PREDICT_AT in found else []
        for read in file.iter_batches(batch_size=BATCH_ROWS, columns=[*names, *timed], use_threads=False):
            columns = {name: clean_column(row_features, name, take_arrow(read.column(name))) for name in names}
            times = (
                make_times(read.column(PREDICT_AT).cast(pa.timestamp("us"), safe=False).to_numpy(False), "")
                if timed
                else None
            )
            yield Batch(read.num_rows, columns, times)


def open_parquet(path: Path, kinds: Mapping[str, str]) -> pq.ParquetFile:
    """Open a Parquet file whose categories are read as codes into its dictionaries."""
    strings = [name for name, kind in kinds.items() if kind == "category"]
    return pq.ParquetFile(path, read_dictionary=strings, pre_buffer=False)


def take_arrow(values: pa.Array) -> Column:
    """Return a column as Arrow has read it."""
    if pa.types.is_dictionary(values.type):
        codes = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return Coded(codes, values.dictionary.to_pylist())
    if pa.types.is_boolean(values.type) or pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
        # Unsafe only in that whole numbers beyond 2^53 are rounded.
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return take_values(values.to_pandas())
