"""Requests with rows as they stand in the main table, which are joined here as in training.

After that they are rows like any other: what is predicted, logged and explained has the columns of the model.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from labkit.errors import DataError, name_nearest, shorten
from labkit.features.arrays import make_array
from labkit.features.main_table import MainTable
from labkit.serving.requests import (
    LONGEST_NAME,
    MOST_FAULTS,
    MOST_ROWS,
    Fault,
    RequestError,
    RowReader,
    has_repeated_key,
)

FIRST_TIME, LAST_TIME = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us")


class MainRows:
    """Reads rows of the main table as rows with the columns of the model.

    Parameters
    ----------
    main_table
        How the rows are joined.
    joined
        The reader of the rows that result.
    rules
        Row rules of the release, as plain data.
    """

    def __init__(
        self, main_table: MainTable, joined: RowReader, rules: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.main_table, self.joined = main_table, joined
        self.reader = RowReader(main_table.columns, main_table.contract, rules)
        self.known = {*main_table.columns, *main_table.others}
        self.mark = json.dumps(min(main_table.added), ensure_ascii=False).encode()

    def is_likely(self, body: bytes) -> bool:
        """Return whether a body may hold rows of the main table, without reading it."""
        return self.mark not in body

    def has_main_columns(self, rows: Sequence[Any]) -> bool:
        """Return whether the first row has columns of the main table only."""
        return bool(rows) and isinstance(rows[0], Mapping) and self.main_table.fits(rows[0])

    def find_rows(self, body: bytes) -> list[Any] | None:
        """Return the rows of a body if they are of the main table, not yet checked; None for any other body."""
        rows = decode_rows(body)
        return rows if rows is not None and self.has_main_columns(rows) else None

    def find_mixture(self, body: bytes) -> Fault | None:
        """Return the fault of the first row that mixes columns of the main table with others of the model."""
        for number, row in enumerate(decode_rows(body) or []):
            if isinstance(row, Mapping) and (mixture := self.main_table.describe_mixture(row)):
                return Fault(f"row {number}: {mixture}", number)
        return None

    def read(self, body: bytes, rows: list[Any]) -> list[Any]:
        """Return the joined rows of a body; unlike `convert`, unknown columns are refused.

        Parameters
        ----------
        rows
            Result of `find_rows`.

        Raises
        ------
        RequestError
            As `RowReader.read`, and as `convert`.
        """
        if has_repeated_key(body):
            raise RequestError(400, Fault("a name occurs twice in one object: send each column once"))
        if len(rows) <= MOST_ROWS:
            faults = [fault for number, row in enumerate(rows) for fault in self.list_unknown(number, row)]
            if faults:
                raise RequestError(422, *faults[: 10 * MOST_FAULTS])
        return self.convert(rows)

    def list_unknown(self, number: int, row: Any) -> list[Fault]:
        """Return the faults of the columns of one row that the main table does not have."""
        unknown = [str(name) for name in row if name not in self.known] if isinstance(row, Mapping) else []
        if unknown and (mixture := self.main_table.describe_mixture(row)):
            return [Fault(f"row {number}: {mixture}", number)]
        return [
            Fault(f"row {number}: {shorten(name, LONGEST_NAME)}: {name_nearest(name[:LONGEST_NAME], self.known)}",
                  number, shorten(name, LONGEST_NAME))
            for name in unknown
        ]  # fmt: skip

    def convert(self, rows: Sequence[Any]) -> list[Any]:
        """Return rows of the main table, given as dictionaries, as rows with the columns of the model.

        Raises
        ------
        RequestError
            422 if a row is not as declared, a joined table has no rows yet, or a value that every row must have cannot
            be computed.
        """
        read = self.reader.convert(rows)
        try:
            made = self.main_table.join(self.reader.make_columns(read).values)
        except DataError as error:
            raise RequestError(422, Fault(str(error))) from error
        columns = [list_values(values, self.joined.kinds[name], name) for name, values in made.items()]
        if faults := self.list_missing(dict(zip(made, columns, strict=True))):
            raise RequestError(422, *faults)
        return [self.joined.row_type(*values) for values in zip(*columns, strict=True)]

    def list_missing(self, columns: Mapping[str, Sequence[Any]]) -> list[Fault]:
        """Return the faults of computed values that are missing although the model needs them, as the time asked."""
        return [
            Fault(f"row {number}: {name}: cannot be computed from the columns of the row", number, name)
            for name, values in columns.items()
            if not self.joined.nullable[name]
            for number, value in enumerate(values)
            if value is None
        ]

    def make_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a request with rows of the main table."""
        return self.reader.make_schema(self.main_table.others)


def decode_rows(body: bytes) -> list[Any] | None:
    """Return the rows of a body of the form that `/predict` takes; None for any other body."""
    try:
        content = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    is_form = isinstance(content, dict) and {*content} == {"rows"} and isinstance(content["rows"], list)
    return content["rows"] if is_form else None


def list_values(values: np.ndarray, kind: str, name: str) -> list[Any]:
    """Return a column as a request holds it: numbers, strings, and times in UTC as ISO 8601; None where missing.

    A computed time may be one that ISO 8601 does not write, such as hours before the year 1; it is missing then.
    """
    found = make_array(values, kind, name)
    if kind == "time":
        texts = np.datetime_as_string(found, timezone="UTC").tolist()
        is_known = ((found >= FIRST_TIME) & (found <= LAST_TIME)).tolist()
        return [text if one else None for text, one in zip(texts, is_known, strict=True)]
    return [None if value != value else value for value in found.tolist()]
