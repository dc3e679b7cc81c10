"""What a prediction for a row of the main table needs: its columns, what is computed, and the rows joined to it.

Training joins all tables, see `labkit.data.joins`; here, only what reaches the model is found and kept.
"""

import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from labkit.data.computed_columns import list_computed
from labkit.data.contract import Contract, Schema
from labkit.data.joins import list_brought
from labkit.errors import DataError
from labkit.features import expressions
from labkit.features.arrays import make_array
from labkit.features.main_table import MainTable
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.table_columns import find_column_kind, to_array
from labkit.features.table_join import TableJoin
from labkit.params.tables import Data

AGREED = ("nullable", "greater_than_or_equal_to", "less_than_or_equal_to")
"""What of a contract is asked of a column."""
LARGEST_WHOLE = 2**53
"""Beyond it, two whole numbers may be the same as float64, as which keys in requests are read."""


def find_main_table(
    data: Data,
    tables: Mapping[str, pd.DataFrame],
    agreed: Contract,
    inputs: Mapping[str, str],
    *,
    is_carrying: bool = True,
) -> tuple[MainTable | None, str]:
    """Find how rows of the main table become rows with the columns of the model.

    Parameters
    ----------
    tables
        The raw tables; those that are not joined are not needed.
    agreed
        The contract of the raw tables.
    inputs
        Kind of each column of the model.
    is_carrying
        Whether the rows of tables that are joined without a time become part of it, with the columns that are needed.

    Returns
    -------
    tuple of MainTable and str
        None, and the reason, if rows of the main table have the columns of the model already, or cannot be joined
        outside of the pipeline.
    """
    main, left = agreed[data.main_table].columns, {*inputs}
    joins: list[TableJoin] = []
    for join in reversed(data.joins):
        brought = {old: new for old, new in list_brought(tables[join.table].columns, join).items() if new in left}
        if brought:
            joins.insert(0, TableJoin(join.table, dict(join.keys), brought, join.as_of, join.within_hours))
            left = (left - {*brought.values()}) | {*join.keys} | ({PREDICT_AT} if join.as_of else set())
    computed: dict[str, str] = {}
    for name, expression in reversed(list_computed(data).items()):
        if name in left:
            computed = {name: expression, **computed}
            left = (left - {name}) | {*expressions.find_names(expression)}
    if strange := sorted(left - {*main}):
        return None, f"column {strange[0]!r} of the model is neither in the main table nor computed or joined"
    if not joins and not computed:
        return None, "the main table has the columns of the model"
    try:
        kinds = find_table_kinds(tables, joins, inputs)
        check_whole_keys(tables, joins, kinds)
    except DataError as error:
        return None, str(error)
    untimed = {join.table for join in joins if join.as_of is None} - {join.table for join in joins if join.as_of}
    carried = sorted(untimed) if is_carrying else []
    kinds_of_main = {name: find_agreed_kind(str(column.dtype)) for name, column in main.items() if name in left}
    return MainTable(
        inputs=dict(inputs),
        columns={name: inputs.get(name, kind) for name, kind in kinds_of_main.items()},
        others=[name for name in main if name not in left],
        computed=computed,
        joins=joins,
        tables=kinds,
        contract=list_agreed(agreed[data.main_table], left),
        agreed={table: list_agreed(agreed[table], names) for table, names in kinds.items() if table in agreed},
        rows={table: take_needed_rows(tables[table], kinds[table], table) for table in carried},
    ), ""


def find_agreed_kind(dtype: str) -> str:
    """Return the kind of a column by its type in the contract."""
    return find_column_kind(pd.Series([], dtype=dtype))


def list_agreed(schema: Schema, names: Collection[str]) -> dict[str, dict[str, object]]:
    """Return what requests for columns have to satisfy, as plain data by column."""
    columns = json.loads(schema.to_json())["columns"]
    return {
        name: {part: found[part] for part in AGREED if part in found}
        for name, found in columns.items()
        if name in names
    }


def find_table_kinds(
    tables: Mapping[str, pd.DataFrame], joins: Sequence[TableJoin], inputs: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the kinds of the needed columns of each joined table; those of the model are of the kind it takes."""
    kinds: dict[str, dict[str, str]] = {}
    for join in joins:
        known = kinds.setdefault(join.table, {})
        for name in join.list_needed():
            kind = inputs.get(join.columns.get(name, "")) or find_column_kind(tables[join.table][name])
            if known.setdefault(name, kind) != kind:
                raise DataError(f"table {join.table}: column {name!r} is needed as {known[name]} and as {kind}")
    return kinds


def check_whole_keys(
    tables: Mapping[str, pd.DataFrame], joins: Sequence[TableJoin], kinds: Mapping[str, Mapping[str, str]]
) -> None:
    """Raise DataError if keys could be mistaken for others where requests are read: whole numbers above 2^53."""
    for join in joins:
        for name in join.keys.values():
            if kinds[join.table][name] == "number" and tables[join.table][name].abs().max() > LARGEST_WHOLE:
                raise DataError(f"table {join.table}: keys in {name!r} are above 2^53: declare the column in `texts`")


def take_needed_rows(frame: pd.DataFrame, kinds: Mapping[str, str], table: str) -> dict[str, np.ndarray]:
    """Return columns of a table as arrays of their kinds."""
    return {name: make_array(to_array(frame[name]), kind, f"{table}.{name}") for name, kind in kinds.items()}
