"""Data contracts: the columns, types, missing values and plausible ranges that a table must have.

The contract of the raw tables is inferred once, from the first data seen, kept in git as
`data/<experiment>/contract.json`, and checked on every later run. This is the only module that uses pandera.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc
from pandera.errors import SchemaDefinitionError, SchemaErrors

from labkit.data.computed_columns import compute_column, list_computed
from labkit.data.joins import list_brought
from labkit.errors import ContractError, MissingDataError, list_briefly
from labkit.features import expressions
from labkit.features.outcome_rates import PREDICT_AT
from labkit.params.tables import Data
from labkit.params.wrangling import Rule
from labkit.storage.atomic import write_text

Schema = pandera.DataFrameSchema
READ_TYPES = {"number": "float64", "boolean": "float64", "category": "str", "date": "datetime64[us]"}
"""Type of a cleaned column by the type that its rule parses."""
Contract = dict[str, Schema]


@dataclass
class Seen:
    """Summary of one column, collected batch by batch: its type, whether values are missing, its range.

    `values` holds up to two distinct values, including a missing one.
    """

    dtype: str
    has_gaps: bool = False
    low: float = math.inf
    high: float = -math.inf
    values: list[object] = field(default_factory=list)

    @property
    def varies(self) -> bool:
        """Whether there are two distinct values, one of which may be a missing value."""
        return len(self.values) > 1

    def add(self, values: pa.ChunkedArray) -> None:
        """Update the summary with one batch, shape (n_rows,)."""
        self.has_gaps = self.has_gaps or values.null_count > 0
        if not self.varies:
            # Most columns already vary within their first rows.
            few = pc.unique(values.slice(0, 1000))
            found = few if len(few) > 1 else pc.unique(values)
            self.values = list(dict.fromkeys([*self.values, *found.slice(0, 2).to_pylist()]))[:2]
        if (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)) and values.null_count < len(values):
            extremes = pc.min_max(values).as_py()
            self.low, self.high = min(self.low, float(extremes["min"])), max(self.high, float(extremes["max"]))

    def make_column(self) -> pandera.Column:
        """Return the schema of the column.

        A number may lie outside the observed range by the width of that range on either side, but not below zero if
        no negative value was seen: a new extreme passes, a change of unit does not.
        """
        checks = []
        if self.high >= self.low:
            span = self.high - self.low if self.high > self.low else max(abs(self.high), 1.0)
            lowest = self.low - span if self.low < 0 else max(self.low - span, 0.0)
            checks = [pandera.Check.ge(lowest), pandera.Check.le(self.high + span)]
        dtype = loosen_type(self.dtype) if self.has_gaps else self.dtype
        return pandera.Column(dtype, checks, nullable=self.has_gaps)


class Inference:
    """The contract of one raw table, inferred from its rows batch by batch."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}

    def add(self, rows: pa.Table) -> None:
        """Update the summaries with the rows of one batch, shape (n_rows, n_columns)."""
        if not self.seen:
            dtypes = rows.schema.empty_table().to_pandas().dtypes
            self.seen = {str(name): Seen(str(dtype)) for name, dtype in dtypes.items()}
        for name, seen in self.seen.items():
            seen.add(rows.column(name))

    def list_varied(self) -> list[str]:
        """Return the columns that have varied so far."""
        return [name for name, seen in self.seen.items() if seen.varies]

    def make_schema(self) -> pandera.DataFrameSchema:
        """Return the schema inferred from all rows so far."""
        return pandera.DataFrameSchema({name: seen.make_column() for name, seen in self.seen.items()}, strict=True)


def join_schemas(contract: Contract, data: Data, drop: Mapping[str, str]) -> pandera.DataFrameSchema:
    """Return the schema of the joined table, without the dropped columns.

    A joined column may have missing values, because a left join may find no match. So may a computed column, except for
    the prediction time and the target, which every row must have.
    """
    columns = {str(name): column for name, column in contract[data.main_table].columns.items()}
    for name, expression in list_computed(data).items():
        columns[name] = infer_computed(expression, columns, nullable=name != PREDICT_AT)
    for join in data.joins:
        raw = contract[join.table].columns
        for name, new in list_brought(map(str, raw), join).items():
            columns[new] = pandera.Column(loosen_type(str(raw[name].dtype)), raw[name].checks, nullable=True)
    if data.target.expression is not None:
        computed = infer_computed(data.target.expression, columns, nullable=False)
        is_code = data.target.task == "classification" and str(computed.dtype) in ("bool", "float64")
        columns[data.target.column] = pandera.Column("int64") if is_code else computed
    if data.target.rule is not None:
        columns[data.target.column] = change_column(columns[data.target.column], data.target.rule)
    return pandera.DataFrameSchema({name: column for name, column in columns.items() if name not in drop}, strict=True)


def list_schema_columns(schema: pandera.DataFrameSchema) -> pd.DataFrame:
    """Return a schema as a table, one row per column: `column`, `dtype`, `nullable` and the checks."""
    columns = json.loads(schema.to_json())["columns"]
    return pd.DataFrame(columns).T.rename_axis("column").reset_index()


def infer_computed(expression: str, columns: Mapping[str, pandera.Column], *, nullable: bool) -> pandera.Column:
    """Return the schema of a computed column; its type is that of the expression on one row of the right types."""
    row = {name: make_example(str(columns[name].dtype)) for name in expressions.find_names(expression)}
    values = compute_column(expression, row)
    dtype = {"M": "datetime64[us, UTC]", "b": "bool", "i": "int64", "f": "float64"}.get(values.dtype.kind)
    return pandera.Column(dtype, nullable=nullable)


def make_example(dtype: str) -> np.ndarray:
    """Return one value of a type, in the form that expressions accept."""
    if dtype.startswith("datetime64"):
        return np.zeros(1, "datetime64[us]")
    return np.zeros(1, dtype) if dtype.startswith(("int", "uint", "float", "bool")) else np.array([""], object)


def allow_missing(schema: pandera.DataFrameSchema, rules: Mapping[str, Rule]) -> pandera.DataFrameSchema:
    """Return a schema adapted to rules that may turn values into missing values or into another type."""
    changed = {
        name: change_column(column, rules[name]) if name in rules else column for name, column in schema.columns.items()
    }
    return pandera.DataFrameSchema(changed, strict=True)


def change_column(column: pandera.Column, rule: Rule) -> pandera.Column:
    """Return the schema of a column after its rule."""
    if rule.type is None:
        return pandera.Column(loosen_type(str(column.dtype)), column.checks, nullable=True)
    return pandera.Column(READ_TYPES[rule.type], nullable=True)


def loosen_type(dtype: str) -> str:
    """Return the type that a column takes when some of its values are missing.

    >>> loosen_type("int64"), loosen_type("bool"), loosen_type("str")
    ('float64', 'object', 'str')
    """
    if dtype.startswith(("int", "uint")):
        return "float64"
    return "object" if dtype == "bool" else dtype


def check_table(frame: pd.DataFrame, schema: pandera.DataFrameSchema, name: str) -> pd.DataFrame:
    """Return the table if it satisfies its contract.

    Raises
    ------
    ContractError
        It does not; names the table, the columns, what was agreed and what was found; at most five faults.
    """
    expected, found = set(schema.columns), {str(column) for column in frame.columns}
    faults = [f"column {column!r} is missing" for column in schema.columns if column not in found]
    faults += [f"column {str(column)!r} is new" for column in frame.columns if str(column) not in expected]
    shared = {column: rule for column, rule in schema.columns.items() if column in found}
    try:
        # Integers pass where floats were agreed: a left join in which every row finds a match keeps integers.
        # In place: nothing is changed without parsers, and a copy would take as much memory again.
        pandera.DataFrameSchema(shared).validate(widen_integers(frame[list(shared)], shared), lazy=True, inplace=True)
    except SchemaErrors as error:
        faults += describe_failures(error.failure_cases, frame, shared)
    if faults:
        raise ContractError(
            f"{name} violates its contract: {list_briefly(faults)}: fix the data, or, if the change is intended, "
            "remove the contract's file and run again to infer a new one"
        )
    return frame


def widen_integers(frame: pd.DataFrame, columns: Mapping[str, pandera.Column]) -> pd.DataFrame:
    """Convert integer columns to float, and boolean columns to object, where the contract requires it."""
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


def describe_failures(cases: pd.DataFrame, frame: pd.DataFrame, columns: Mapping[str, pandera.Column]) -> list[str]:
    """Turn pandera's failure cases into one sentence per column and check."""
    sentences = []
    retyped = set(cases.loc[cases["check"].astype(str).str.startswith("dtype"), "column"])
    for (name, check), group in cases.groupby(["column", "check"], sort=False):
        column = str(name)
        # For a column of the wrong type, only the type is reported: its values would fail every check.
        if column in retyped and not str(check).startswith("dtype"):
            continue
        first = group.iloc[0]
        if str(check).startswith("dtype"):
            sentences.append(f"column {column!r} is {frame[column].dtype}, expected {columns[column].dtype}")
        elif check == "not_nullable":
            sentences.append(f"column {column!r} misses {len(group):,} values, first in row {first['index']}")
        else:
            sentences.append(
                f"column {column!r}: {len(group):,} values fail {check}, first {first['failure_case']} in row "
                f"{first['index']}"
            )
    return sentences


def save_contract(path: Path, contract: Contract) -> None:
    """Write a contract as JSON, formatted for reading and for diffs."""
    tables = {name: json.loads(schema.to_json()) for name, schema in contract.items()}
    write_text(path, json.dumps(tables, indent=1, ensure_ascii=False) + "\n")


def load_contract(path: Path) -> Contract:
    """Read a contract.

    Raises
    ------
    MissingDataError
        The file does not exist yet.
    ContractError
        The file is not a valid contract.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not found: run the stage `source`, which infers it")
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        return {name: pandera.DataFrameSchema.from_json(json.dumps(schema)) for name, schema in tables.items()}
    except (ValueError, KeyError, TypeError, AttributeError, SchemaDefinitionError) as error:
        raise ContractError(f"{path}: not a contract: restore it from git or remove it") from error
