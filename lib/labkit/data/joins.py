"""Join the raw tables as declared.

For what tables should contain, see `labkit.data.contract`. Read next: `labkit.stages.source`.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from labkit.data.computed_columns import add_column, check_times, is_time, list_computed, read_target
from labkit.data.table_files import ROW
from labkit.errors import DataError, list_briefly
from labkit.features.outcome_rates import PREDICT_AT
from labkit.params.tables import Data, Join

FOUND = "labkit found"
"""Name of the column that marks rows of a joined table while they are counted."""


def join_tables(tables: Mapping[str, pd.DataFrame], data: Data) -> pd.DataFrame:
    """Join the raw tables as declared; every row of the main table is kept exactly once.

    Returns
    -------
    pandas.DataFrame
        Shape (n_rows of the main table, n_columns), indexed by `ROW`: the main table, the derived columns,
        `PREDICT_AT` and `OUTCOME_KNOWN_AT` where times are declared, the joined columns, and the target.

    Raises
    ------
    DataError
        A join would multiply rows or add a column that already exists.
    ParamsError
        An expression cannot be computed.
    """
    frame = tables[data.main_table].reset_index(drop=True).rename_axis(index=ROW)
    for name, expression in list_computed(data).items():
        frame = add_column(frame, name, expression)
    if data.time is not None:
        check_times(frame)
    for join in data.joins:
        frame = (join_as_of if join.as_of else join_table)(frame, tables[join.table], join)
    if data.target.expression is not None:
        return add_column(frame, data.target.column, data.target.expression, needs_all=True)
    return read_target(frame, data.target)


def list_joins(joined: pd.DataFrame, tables: Mapping[str, pd.DataFrame], data: Data) -> pd.DataFrame:
    """Return how each table is joined: `table`, `keys`, `row taken`, and `matched`, the fraction of rows with one.

    Each table is marked by a column of its own and joined again, so that a found row without values counts as found.

    Parameters
    ----------
    joined
        As `join_tables` returns it.
    """
    lines = []
    for join in data.joins:
        marked = join.model_copy(update={"prefix": "", "columns": (FOUND,)})
        other = tables[join.table].assign(**{FOUND: 1.0})
        found = (join_as_of if join.as_of else join_table)(joined, other, marked)[FOUND].notna()
        keys = ", ".join(one if one == two else f"{one} = {two}" for one, two in join.keys.items())
        lines.append([join.table, keys, describe_row_taken(join), float(found.mean()) if len(found) else 0.0])
    return pd.DataFrame(lines, columns=["table", "keys", "row taken", "matched"])


def describe_row_taken(join: Join) -> str:
    """Return which row of a table is joined.

    >>> describe_row_taken(Join(table="weather", keys={"origin": "origin"}, as_of="time", within_hours=6))
    'the latest with time up to predict_at, at most 6 hours before'
    >>> describe_row_taken(Join(table="planes", keys={"tailnum": "tailnum"}))
    'the one with these keys'
    """
    if join.as_of is None:
        return "the one with these keys"
    limit = f", at most {join.within_hours:g} hours before" if join.within_hours else ""
    return f"the latest with {join.as_of} up to predict_at{limit}"


def list_brought(columns: Iterable[str], join: Join) -> dict[str, str]:
    """Return the columns that a join adds: names in the result by names in the joined table."""
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
    """Return the columns of a table that a join needs, renamed, rejecting names that already exist."""
    brought = list_brought(other.columns, join)
    clash = sorted(set(brought.values()) & set(frame.columns))
    if clash:
        raise DataError(
            f"join with {join.table}: columns already exist: {list_briefly(clash)}: give the join a `prefix`"
        )
    return other[[*join.keys.values(), *brought]].rename(columns=brought)


def join_as_of(frame: pd.DataFrame, other: pd.DataFrame, join: Join) -> pd.DataFrame:
    """Left-join the latest row available at `PREDICT_AT`, at most `within_hours` old; never a later one."""
    keys, at = list(join.keys.values()), str(join.as_of)
    if not is_time(other[at]):
        raise DataError(f"join with {join.table}: {at} holds {other[at].dtype}, not times: name it in `times`")
    check_unique(other, [*keys, at], join.table)
    # Unique names, so that no key or time of one table is mistaken for a column of the other.
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
    """Return times in UTC with microsecond precision; times without a zone are taken as UTC."""
    zoned = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
    return zoned.dt.as_unit("us")


def check_unique(frame: pd.DataFrame, keys: list[str], name: str) -> None:
    """Raise an error if two rows of a table share a join key; missing keys are ignored."""
    repeated = frame.dropna(subset=keys)
    repeated = repeated[repeated.duplicated(keys, keep=False)]
    if len(repeated):
        first = dict(zip(keys, repeated[keys].iloc[0], strict=True))
        raise DataError(
            f"join with {name}: {len(repeated):,} rows share their key, first {first}: the join would multiply rows; "
            "make the key unique or name more columns in `keys`"
        )
