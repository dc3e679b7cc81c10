"""Rows as they stand in the main table: what is computed from them and joined to them, as in training.

Needs numpy only. The spec is found in `labkit.data.needed_tables`, from the params and the raw tables.
"""

import json
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any, Self

import numpy as np

from labkit.errors import DataError, ParamsError, list_briefly
from labkit.features import expressions
from labkit.features.arrays import make_array, make_objects
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.table_join import JoinedRows, TableJoin

Rows = Mapping[str, np.ndarray]
"""Columns of a table, arrays of shape (n_rows,)."""


@dataclass(frozen=True)
class MainTable:
    """How rows of the main table become rows with the columns of the model.

    Attributes
    ----------
    inputs
        Kind of each column of the model: `number`, `boolean`, `time` or `category`.
    columns
        Kind of each column of the main table that is needed.
    others
        Other columns of the main table, which are accepted and ignored.
    computed
        Expressions by name of the column, in order.
    joins
        In order.
    tables
        Kind of each column that is needed, by joined table.
    contract
        What is agreed on the columns in `columns`: `nullable`, `greater_than_or_equal_to`, `less_than_or_equal_to`.
    rows
        Columns of the joined tables whose rows are known, by table.
    agreed
        The same as `contract` for the columns of each joined table.
    """

    inputs: dict[str, str]
    columns: dict[str, str]
    others: list[str]
    computed: dict[str, str]
    joins: list[TableJoin]
    tables: dict[str, dict[str, str]]
    contract: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    agreed: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    arranged: list[JoinedRows | None] = field(init=False)

    def __post_init__(self) -> None:
        arranged = [arrange(join, self.tables, self.rows) for join in self.joins]
        object.__setattr__(self, "arranged", arranged)

    @cached_property
    def added(self) -> set[str]:
        """Columns of the model that a row of the main table does not have: those computed and those joined."""
        return {*self.inputs} - {*self.columns, *self.others}

    @cached_property
    def own(self) -> set[str]:
        """Columns of the main table that are none of the model."""
        return {*self.columns, *self.others} - {*self.inputs}

    def fits(self, names: Collection[str]) -> bool:
        """Return whether columns are those of the main table: some of them, and none that is computed or joined."""
        known = {*self.columns, *self.others}
        return not self.added & {*names} and bool(known & {*names})

    def describe_mixture(self, names: Collection[str]) -> str:
        """Describe which columns are of both forms of a row; empty if they are of one form, or complete for one."""
        added = [name for name in names if name in self.added]
        alone = [name for name in names if name in self.own]
        if not added or not alone or {*self.inputs} <= {*names}:
            return ""
        return (
            f"columns of the main table such as {alone[0]!r} beside computed or joined ones such as {added[0]!r}: give "
            "all columns of the model, or those of the main table only"
        )

    def list_unknown(self) -> list[str]:
        """Return the joined tables of which no rows are known."""
        return sorted({join.table for join in self.joins} - {*self.rows})

    def with_rows(self, table: str, rows: Rows) -> "MainTable":
        """Return the same with the rows of one joined table replaced.

        Parameters
        ----------
        table
            A key of `tables`.
        rows
            Its columns, among them those needed; shape (n_table_rows,).

        Raises
        ------
        DataError
            A column is missing or of another kind, or rows share their key.
        """
        kinds = self.tables[table]
        if missing := [name for name in kinds if name not in rows]:
            raise DataError(f"table {table}: columns missing: {list_briefly(missing)}")
        found = {name: make_array(rows[name], kind, f"{table}.{name}") for name, kind in kinds.items()}
        return self.with_all_rows({**self.rows, table: found})

    def with_all_rows(self, rows: Mapping[str, Rows]) -> "MainTable":
        """Return the same with other rows of the joined tables; those that are the same are not arranged again."""
        made = copy(self)
        arranged = [
            before if rows.get(join.table) is self.rows.get(join.table) else arrange(join, self.tables, rows)
            for join, before in zip(self.joins, self.arranged, strict=True)
        ]
        object.__setattr__(made, "rows", dict(rows))
        object.__setattr__(made, "arranged", arranged)
        return made

    def join(self, columns: Rows) -> dict[str, np.ndarray]:
        """Return the columns of the model.

        Parameters
        ----------
        columns
            Columns of the main table, among them those needed; shape (n_rows,).

        Returns
        -------
        dict of numpy.ndarray
            Shape (n_rows,), in the order of `inputs`.

        Raises
        ------
        DataError
            A column is missing, a value is of another kind or cannot be computed with, or a table has no rows.
        """
        if missing := [name for name in self.columns if name not in columns]:
            raise DataError(f"columns missing: {list_briefly(missing)}")
        if unknown := self.list_unknown():
            raise DataError(f"no rows of the table {unknown[0]} are known: give them, or the joined columns")
        made = {name: make_array(columns[name], kind, name) for name, kind in self.columns.items()}
        for name, expression in self.computed.items():
            try:
                values = expressions.compute(expression, made)
            except ParamsError as error:
                raise DataError(f"column {name!r} cannot be computed: {error}") from error
            made[name] = values.astype("datetime64[us]") if values.dtype.kind == "M" else values
        for arranged in self.arranged:
            if arranged is not None:
                made |= arranged.look_up(made, made.get(PREDICT_AT))
        return {name: made[name] for name in self.inputs}

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain data, without the rows."""
        parts = ("inputs", "columns", "others", "computed", "tables", "contract", "agreed")
        return {**{name: getattr(self, name) for name in parts}, "joins": [asdict(join) for join in self.joins]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], rows: Mapping[str, Rows]) -> Self:
        """Return what `to_json` was made of, with the rows of tables."""
        joins = [TableJoin(**join) for join in content["joins"]]
        return cls(**{**content, "joins": joins}, rows=dict(rows))


def arrange(join: TableJoin, kinds: Mapping[str, Mapping[str, str]], rows: Mapping[str, Rows]) -> JoinedRows | None:
    """Return the rows of a joined table, ready to be looked up; None if they are not known."""
    return JoinedRows(join, kinds[join.table], rows[join.table]) if join.table in rows else None


def pack_rows(rows: Mapping[str, Rows]) -> bytes:
    """Return the rows of tables as the bytes of a `.npz` file; equal rows give equal bytes."""
    places = [(table, name) for table in sorted(rows) for name in sorted(rows[table])]
    # Strings as JSON: numpy's own strings take the length of the longest, and lose zero characters at the end.
    found = [rows[table][name] for table, name in places]
    arrays = {f"{number}": pack(values.tolist()) if values.dtype == object else values for number, values in
              enumerate(found)}  # fmt: skip
    stream = BytesIO()
    np.savez_compressed(stream, allow_pickle=False, names=pack(places), **arrays)
    return stream.getvalue()


def pack(content: Any) -> np.ndarray:
    """Return plain data as an array of bytes."""
    return np.frombuffer(json.dumps(content).encode(), "uint8")


def unpack_rows(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the rows of tables from the arrays of `pack_rows`."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    for number, (table, name) in enumerate(json.loads(arrays["names"].tobytes())):
        values = arrays[f"{number}"]
        found = make_objects(json.loads(values.tobytes())) if values.dtype == np.uint8 else values
        rows.setdefault(table, {})[name] = found
    return rows
