"""What a table must look like: columns, types, missing values and plausible ranges.

The contract of the raw tables is inferred once, from the first data seen, kept in git as
`data/<experiment>/contract.json`, and checked ever after. Sole owner of pandera.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaDefinitionError, SchemaErrors

from labkit.data import expressions
from labkit.data.tables import PREDICT_AT, compute_column, list_brought, list_computed
from labkit.errors import ContractError, MissingDataError, list_briefly
from labkit.files import write_text
from labkit.params import Data, Rule

READ_TYPES = {"number": "float64", "boolean": "float64", "category": "str", "date": "datetime64[us]"}
"""Type of a clean column by the type that its rule reads."""
Contract = dict[str, pa.DataFrameSchema]


def infer_contract(tables: Mapping[str, pd.DataFrame]) -> Contract:
    """Infer the contract of each raw table from its rows."""
    return {name: infer_schema(frame) for name, frame in tables.items()}


def infer_schema(frame: pd.DataFrame) -> pa.DataFrameSchema:
    """Infer one table's schema: type, whether values may be missing, and a range for numbers.

    A number may lie outside of what was seen by as much as the whole span seen, on either side, but not below zero
    where nothing negative was seen: a new record passes, another unit does not.
    """
    columns = {}
    for name, values in frame.items():
        checks = []
        known = values.dropna()
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and len(known):
            low, high = float(known.min()), float(known.max())
            span = high - low if high > low else max(abs(high), 1.0)
            lowest = low - span if low < 0 else max(low - span, 0.0)
            checks = [pa.Check.ge(lowest), pa.Check.le(high + span)]
        columns[str(name)] = pa.Column(str(values.dtype), checks, nullable=bool(values.isna().any()))
    return pa.DataFrameSchema(columns, strict=True)


def join_schemas(contract: Contract, data: Data, drop: Mapping[str, str]) -> pa.DataFrameSchema:
    """Return the schema of the joined table, without the dropped columns.

    A joined column may be missing, because a left join finds no partner for some rows; so may a computed one, but for
    the time of the question and the target, which no row is without.
    """
    columns = {str(name): column for name, column in contract[data.main_table].columns.items()}
    for name, text in list_computed(data).items():
        columns[name] = infer_computed(text, columns, nullable=name != PREDICT_AT)
    for join in data.joins:
        raw = contract[join.table].columns
        for name, new in list_brought(map(str, raw), join).items():
            columns[new] = pa.Column(loosen_type(str(raw[name].dtype)), raw[name].checks, nullable=True)
    if data.target.expression is not None:
        computed = infer_computed(data.target.expression, columns, nullable=False)
        is_code = data.target.task == "classification" and str(computed.dtype) in ("bool", "float64")
        columns[data.target.column] = pa.Column("int64") if is_code else computed
    return pa.DataFrameSchema({name: column for name, column in columns.items() if name not in drop}, strict=True)


def infer_computed(text: str, columns: Mapping[str, pa.Column], *, nullable: bool) -> pa.Column:
    """Return the schema of a computed column: its type is what the expression gives for one row of the right types."""
    row = {name: make_example(str(columns[name].dtype)) for name in expressions.find_names(text)}
    values = compute_column(text, row)
    dtype = {"M": "datetime64[us, UTC]", "b": "bool", "i": "int64", "f": "float64"}.get(values.dtype.kind)
    return pa.Column(dtype, nullable=nullable)


def make_example(dtype: str) -> np.ndarray:
    """Return one value of a type, as expressions take it."""
    if dtype.startswith("datetime64"):
        return np.zeros(1, "datetime64[us]")
    return np.zeros(1, dtype) if dtype.startswith(("int", "uint", "float", "bool")) else np.array([""], object)


def allow_missing(schema: pa.DataFrameSchema, rules: Mapping[str, Rule]) -> pa.DataFrameSchema:
    """Return a schema in which rules may have turned values into missing ones, or into another type."""
    changed = {
        name: change_column(column, rules[name]) if name in rules else column for name, column in schema.columns.items()
    }
    return pa.DataFrameSchema(changed, strict=True)


def change_column(column: pa.Column, rule: Rule) -> pa.Column:
    """Return what a column looks like after its rule."""
    if rule.type is None:
        return pa.Column(loosen_type(str(column.dtype)), column.checks, nullable=True)
    return pa.Column(READ_TYPES[rule.type], nullable=True)


def loosen_type(dtype: str) -> str:
    """Return the type that a column takes when some of its values are missing.

    >>> loosen_type("int64"), loosen_type("bool"), loosen_type("str")
    ('float64', 'object', 'str')
    """
    if dtype.startswith(("int", "uint")):
        return "float64"
    return "object" if dtype == "bool" else dtype


def check_table(frame: pd.DataFrame, schema: pa.DataFrameSchema, name: str) -> pd.DataFrame:
    """Return the table if it keeps its contract.

    Raises
    ------
    ContractError
        Naming table, columns, what was agreed and what was found, five faults at most.
    """
    expected, found = set(schema.columns), {str(column) for column in frame.columns}
    faults = [f"column {column!r} is gone" for column in schema.columns if column not in found]
    faults += [f"column {str(column)!r} is new" for column in frame.columns if str(column) not in expected]
    shared = {column: rule for column, rule in schema.columns.items() if column in found}
    try:
        # Whole numbers pass where real ones were agreed: a left join without a miss keeps integers.
        pa.DataFrameSchema(shared).validate(widen_integers(frame[list(shared)], shared), lazy=True)
    except SchemaErrors as error:
        faults += describe_failures(error.failure_cases, frame, shared)
    if faults:
        raise ContractError(
            f"{name} breaks its contract: {list_briefly(faults)}: mend the data, or, if the change is wanted, "
            "remove the contract's file and run again to agree on a new one"
        )
    return frame


def widen_integers(frame: pd.DataFrame, columns: Mapping[str, pa.Column]) -> pd.DataFrame:
    """Turn integer columns into real ones where the contract says so."""
    wanted = {
        name: "float64"
        for name, column in columns.items()
        if str(column.dtype) == "float64" and pd.api.types.is_integer_dtype(frame[name])
    }
    wanted |= {
        name: "object"
        for name, column in columns.items()
        if str(column.dtype) == "object" and pd.api.types.is_bool_dtype(frame[name])
    }
    return frame.astype(wanted) if wanted else frame


def describe_failures(cases: pd.DataFrame, frame: pd.DataFrame, columns: Mapping[str, pa.Column]) -> list[str]:
    """Turn pandera's failure cases into one sentence per column and check."""
    sentences = []
    retyped = set(cases.loc[cases["check"].astype(str).str.startswith("dtype"), "column"])
    for (name, check), group in cases.groupby(["column", "check"], sort=False):
        column = str(name)
        # Of a column of another type only that is told: its values fail every check.
        if column in retyped and not str(check).startswith("dtype"):
            continue
        first = group.iloc[0]
        if str(check).startswith("dtype"):
            sentences.append(f"column {column!r} is {frame[column].dtype}, agreed {columns[column].dtype}")
        elif check == "not_nullable":
            sentences.append(f"column {column!r} misses {len(group):,} values, first in row {first['index']}")
        else:
            sentences.append(
                f"column {column!r}: {len(group):,} values fail {check}, first {first['failure_case']} in row "
                f"{first['index']}"
            )
    return sentences


def save_contract(path: Path, contract: Contract) -> None:
    """Write a contract as JSON, laid out for reading and for diffs."""
    tables = {name: json.loads(schema.to_json()) for name, schema in contract.items()}
    write_text(path, json.dumps(tables, indent=1, ensure_ascii=False) + "\n")


def load_contract(path: Path) -> Contract:
    """Read a contract.

    Raises
    ------
    MissingDataError
        There is none yet.
    ContractError
        The file is not a contract.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not there: run the stage `source`, which infers it")
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        return {name: pa.DataFrameSchema.from_json(json.dumps(schema)) for name, schema in tables.items()}
    except (ValueError, KeyError, TypeError, AttributeError, SchemaDefinitionError) as error:
        raise ContractError(f"{path}: not a contract ({error}): restore it from git or remove it") from error
