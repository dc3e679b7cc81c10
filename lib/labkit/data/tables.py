"""How tables are read, written and joined.

Not what they should hold: that is `labkit.data.contract`. Read next: `labkit.data.sources`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit.data import expressions
from labkit.data.rules import apply_rule
from labkit.errors import DataError, MissingDataError, ParamsError, list_briefly
from labkit.files import atomic_write
from labkit.params import Data, Join, Target

ROW = "row"
"""Name of the index that leads back from any table to the row of the main raw table, counted from 0."""
PREDICT_AT, OUTCOME_KNOWN_AT = "predict_at", "outcome_known_at"
"""Columns of the joined table that say when a row is asked and when its answer is known, in UTC."""


def load_table(path: Path) -> pd.DataFrame:
    """Read a Parquet file that `save_table` wrote, verifying its page checksums.

    Raises
    ------
    MissingDataError
        There is no such file.
    DataError
        The file is damaged.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not there: run the stage that writes it")
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise DataError(f"{path}: damaged: remove it and run the stage again") from error


def save_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet with page checksums; the same table gives the same bytes.

    Raises
    ------
    DataError
        Two columns share a name, or a column mixes types that Parquet cannot hold.
    """
    twins = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
    if twins:
        raise DataError(f"columns named twice: {list_briefly(twins)}: rename them before saving {path.name}")
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{path.name}: {describe_mixture(frame)}: give each column one type") from error
    with atomic_write(path) as beside:
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)


def describe_mixture(frame: pd.DataFrame) -> str:
    """Return which column of a table mixes types, and which ones."""
    for name, values in frame.items():
        kinds = list(dict.fromkeys(type(value).__name__ for value in values.dropna().head(100_000)))
        if values.dtype == object and len(kinds) > 1:
            return f"column {name!r} holds values of the types {' and '.join(kinds[:3])}"
    return "a column mixes types"


def join_tables(tables: Mapping[str, pd.DataFrame], data: Data) -> pd.DataFrame:
    """Join the raw tables as declared; every row of the main table stays exactly once.

    Returns
    -------
    pandas.DataFrame
        Shape (rows of the main table, joined columns), indexed by `ROW`: the main table, the derived columns,
        `PREDICT_AT` and `OUTCOME_KNOWN_AT` where times are declared, the joined columns, and the target.

    Raises
    ------
    DataError
        A join would multiply rows or bring a column that is already there.
    ParamsError
        An expression cannot be computed.
    """
    frame = tables[data.main_table].reset_index(drop=True).rename_axis(index=ROW)
    for name, text in list_computed(data).items():
        frame = add_column(frame, name, text)
    if data.time is not None:
        check_times(frame)
    for join in data.joins:
        frame = (join_as_of if join.as_of else join_table)(frame, tables[join.table], join)
    if data.target.expression is not None:
        return add_column(frame, data.target.column, data.target.expression, needs_all=True)
    return read_target(frame, data.target)


def read_target(frame: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Return the table with the target read by its rule, where there is one and the table has the target."""
    if target.rule is None or target.column not in frame:
        return frame
    values = apply_rule(expressions.to_array(frame[target.column]), target.rule)
    column = pd.Series(values, index=frame.index)
    return frame.assign(**{target.column: column.astype("str") if column.dtype == object else column})


def list_computed(data: Data) -> dict[str, str]:
    """Return the columns computed before anything is joined: name and expression, in order."""
    if data.time is None:
        return dict(data.derived)
    times = {PREDICT_AT: data.time.predict_at, OUTCOME_KNOWN_AT: data.time.outcome_known_at}
    return {**data.derived, **times}


def add_column(frame: pd.DataFrame, name: str, text: str, *, needs_all: bool = False) -> pd.DataFrame:
    """Return the table with a column computed from others; times are UTC.

    Parameters
    ----------
    needs_all
        Whether the value is missing where any column that the expression names is missing.
    """
    if name in frame:
        raise DataError(f"{name}: there is a column of that name: choose another for what is computed")
    names = expressions.find_names(text)
    values = pd.Series(compute_column(text, {column: expressions.to_array(frame[column]) for column in names}))
    values = values.set_axis(frame.index)
    if is_time(values):
        values = values.dt.tz_localize("UTC")
    is_known = frame[names].notna().all(axis=1) if needs_all else None
    if is_known is not None and not is_known.all():
        values = (values.astype("float64") if pd.api.types.is_bool_dtype(values) else values).where(is_known)
    return frame.assign(**{name: values})


def compute_column(text: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what an expression gives, in a type that a table can hold."""
    values = expressions.compute(text, columns)
    if values.dtype.kind == "m":
        raise ParamsError(f"expression {text!r} gives a length of time: divide by hours(1) to have it as a number")
    return values.astype("datetime64[us]") if values.dtype.kind == "M" else values


def is_time(values: pd.Series) -> bool:
    """Tell whether a column holds times."""
    return pd.api.types.is_datetime64_any_dtype(values)


def check_times(frame: pd.DataFrame) -> None:
    """Refuse expressions for `data.time` that give no times."""
    for name in (PREDICT_AT, OUTCOME_KNOWN_AT):
        if not is_time(frame[name]):
            raise DataError(f"data.time.{name} gives {frame[name].dtype}, not times: name their columns in `times`")


def settle_target(frame: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Return the rows that have an answer, whole numbers as such: yes and no are 1 and 0, not 1.0 and 0.0.

    Rows without an answer are left out only where the answer is computed; otherwise they are for a filter to name.
    """
    if target.expression is None:
        return frame
    kept = frame[frame[target.column].notna()]
    values = kept[target.column]
    is_code = target.task == "classification" and pd.api.types.is_numeric_dtype(values)
    return kept.assign(**{target.column: values.astype("int64")}) if is_code and (values % 1 == 0).all() else kept


def list_brought(columns: Iterable[str], join: Join) -> dict[str, str]:
    """Return the columns that a join brings: their names in the joined table and in the result."""
    left_out = {*join.keys.values(), join.as_of}
    chosen = join.columns or [str(name) for name in columns if name not in left_out]
    return {name: join.prefix + name for name in chosen}


def join_table(frame: pd.DataFrame, other: pd.DataFrame, join: Join) -> pd.DataFrame:
    """Left-join one table whose keys must be unique."""
    keys = list(join.keys.values())
    check_unique(other, keys, join.table)
    if join.cardinality == "one_to_one":
        check_unique(frame.dropna(subset=list(join.keys)), list(join.keys), "the rows so far")
    right = take_right(frame, other, join).dropna(subset=keys).set_index(keys)
    return frame.join(right, on=list(join.keys)).rename_axis(index=ROW)


def take_right(frame: pd.DataFrame, other: pd.DataFrame, join: Join) -> pd.DataFrame:
    """Return the columns of a table that a join needs, renamed, refusing names that are taken."""
    brought = list_brought(other.columns, join)
    clash = sorted(set(brought.values()) & set(frame.columns))
    if clash:
        raise DataError(f"join with {join.table}: already there: {list_briefly(clash)}: give the join a `prefix`")
    return other[[*join.keys.values(), *brought]].rename(columns=brought)


def join_as_of(frame: pd.DataFrame, other: pd.DataFrame, join: Join) -> pd.DataFrame:
    """Left-join the latest row that was there at `PREDICT_AT`, at most `within_hours` old; never a later one."""
    keys, at = list(join.keys.values()), str(join.as_of)
    if not is_time(other[at]):
        raise DataError(f"join with {join.table}: {at} holds {other[at].dtype}, not times: name it in `times`")
    check_unique(other, [*keys, at], join.table)
    # Names of their own, so that no key or time of one table is taken for a column of the other.
    places = [f"key {number}" for number in range(len(keys))]
    right = take_right(frame, other, join).set_axis([*places, *list_brought(other.columns, join).values()], axis=1)
    right = right.assign(**{"as of": to_utc(other[at])}).dropna(subset=["as of", *places])
    left = frame[list(join.keys)].set_axis(places, axis=1).assign(**{"as of": to_utc(frame[PREDICT_AT])}).dropna()
    found = pd.merge_asof(
        left.sort_values("as of", kind="stable").reset_index(),
        right.sort_values("as of", kind="stable"),
        on="as of",
        by=places,
        direction="backward",
        tolerance=None if join.within_hours is None else pd.Timedelta(hours=join.within_hours),
    )
    return frame.join(found.set_index(ROW).drop(columns=["as of", *places])).rename_axis(index=ROW)


def to_utc(times: pd.Series) -> pd.Series:
    """Return times in UTC and microseconds; those without a zone are UTC."""
    zoned = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
    return zoned.dt.as_unit("us")


def check_unique(frame: pd.DataFrame, keys: list[str], name: str) -> None:
    """Refuse a table in which two rows share a join key."""
    repeated = frame.dropna(subset=keys)
    repeated = repeated[repeated.duplicated(keys, keep=False)]
    if len(repeated):
        first = dict(zip(keys, repeated[keys].iloc[0], strict=True))
        raise DataError(
            f"join with {name}: {len(repeated):,} rows share their key, first {first}: the join would multiply rows; "
            "make the key unique or name more columns in `keys`"
        )
