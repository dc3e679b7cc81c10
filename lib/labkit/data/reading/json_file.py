"""Read JSON records as rows of strings: an array of objects, one object per line, or columns by name.

Types are inferred by the same rules as for delimited text, so `"7"` and `7` are the same number. Records are read one
at a time; only a file that is a single object is loaded as a whole.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from labkit.data.reading.header import check_names
from labkit.data.reading.text_scan import scan_text
from labkit.data.reading.text_stream import open_text
from labkit.errors import DataError
from labkit.params.tables import Table

PIECE = 1 << 20
LONGEST_RECORD = 1 << 27
"""Maximum number of characters of one record, or of a file that is a single object."""
LONGEST_TOKEN = 16
BLOCK_CELLS = 500_000
BLANK, COMMA = re.compile(r"\s*"), re.compile(r"[\s,]*")
DECODER = json.JSONDecoder(
    parse_float=str, parse_int=str, parse_constant=lambda word: None if word == "NaN" else word, strict=False
)


class JsonFile:
    """A file of JSON records, scanned once for the names of the columns.

    Raises
    ------
    DataError
        The file is not JSON, truncated, has no records, or has nested records.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        scan_text(path, table, where)
        found: dict[str, None] = {}
        for number, record in enumerate(self.read_records(), 1):
            self.check_record(record, number)
            found |= dict.fromkeys(record)
        if not found:
            raise DataError(f"{where}: 0 records: is it the right file?")
        self.keys = list(found)
        self.names = check_names(self.keys, table.model_copy(update={"header": True}), where)

    def check_record(self, record: Any, number: int) -> None:
        """Reject a value that is not a flat object."""
        if not isinstance(record, dict):
            raise DataError(
                f"{self.where}: record {number:,} is {name_type(record)}: write an array of objects, one per row, or "
                "one object per line"
            )
        for name, value in record.items():
            if isinstance(value, dict | list):
                raise DataError(
                    f"{self.where}: record {number:,}: {name!r} holds {name_type(value)}, not a plain value: flatten "
                    "it, e.g. with pandas.json_normalize, and write it as CSV or Parquet"
                )

    def read_records(self) -> Iterator[Any]:
        """Yield the records of the file, whatever its layout."""
        with open_text(self.path, self.table, self.where) as stream:
            values = Values(stream, self.where)
            first = list(itertools.islice(values.read(), 2))
            if len(first) == 1 and not values.is_array and isinstance(first[0], dict):
                yield from list_rows(first[0])
                return
        with open_text(self.path, self.table, self.where) as stream:
            yield from name_cells(Values(stream, self.where).read())

    def read_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as strings, in batches, with columns named by position."""
        records, keys = self.read_records(), self.keys
        while block := list(itertools.islice(records, max(1, BLOCK_CELLS // len(keys)))):
            arrays = [pa.array([write_json_cell(record.get(key)) for record in block], pa.string()) for key in keys]
            yield pa.RecordBatch.from_arrays(arrays, names=[str(place) for place in range(len(keys))])


class Values:
    """The values of a JSON document, one at a time: the items of its array, or consecutive top-level values."""

    def __init__(self, stream: TextIO, where: str) -> None:
        self.stream, self.where = stream, where
        self.buffer, self.place, self.line = "", 0, 1
        self.is_array = False

    def read(self) -> Iterator[Any]:
        """Yield the values.

        Raises
        ------
        DataError
            The document is not JSON, or is truncated; names the line.
        """
        self.fill()
        self.skip(BLANK)
        if self.buffer.startswith("[", self.place):
            self.is_array = True
            self.place += 1
        while True:
            self.skip(COMMA if self.is_array else BLANK)
            if self.place == len(self.buffer):
                if self.is_array:
                    raise self.describe_end()
                return
            if self.is_array and self.buffer[self.place] == "]":
                self.place += 1
                self.skip(BLANK)
                if self.place < len(self.buffer):
                    raise self.describe(0)
                return
            yield self.read_value()

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Advance past the pattern to the next value, or to the end of the document."""
        while True:
            found = pattern.match(self.buffer, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.buffer) or not self.fill():
                return

    def read_value(self) -> Any:
        """Return the next value, reading more until it is complete."""
        while True:
            try:
                value, self.place = DECODER.raw_decode(self.buffer, self.place)
                return value
            except json.JSONDecodeError as error:
                fault, is_open = error.pos - self.place, error.msg.startswith("Unterminated")
                rest = "" if is_open else self.buffer[error.pos + 1 :]
                # Near the end of the buffer, what follows may complete the token.
                if len(rest) > LONGEST_TOKEN or not self.fill():
                    raise (self.describe(fault) if rest.strip() else self.describe_end()) from error
            except RecursionError as error:
                raise DataError(f"{self.where}: nested too deep: flatten it") from error

    def fill(self) -> bool:
        """Read the next piece and discard what was parsed; return whether there was more."""
        more = self.stream.read(PIECE)
        self.line += self.buffer.count("\n", 0, self.place)
        self.buffer, self.place = self.buffer[self.place :] + more, 0
        if len(self.buffer) > LONGEST_RECORD:
            raise DataError(
                f"{self.where}: line {self.line:,}: a value of more than {LONGEST_RECORD:,} characters: write one "
                "object per row, or Parquet"
            )
        return bool(more)

    def describe(self, fault: int) -> DataError:
        """Return the error for invalid JSON, with the line of the fault in an array, else of the value."""
        at = self.place + fault
        line = self.line + self.buffer.count("\n", 0, at if self.is_array else self.place)
        begun = " ".join(self.buffer[max(self.place, at - 30) : at + 1].split())
        return DataError(
            f"{self.where}: line {line:,}: invalid JSON at {begun!r}: write the file again with a JSON library"
        )

    def describe_end(self) -> DataError:
        """Return the error for a truncated document."""
        line = self.line + self.buffer.count("\n", 0, self.place)
        begun = self.buffer[self.place : self.place + 30].split("\n")[0]
        shown = f" ({begun!r} …)" if begun else ""
        return DataError(
            f"{self.where}: line {line:,}{shown}: truncated: copy the file again, or remove the incomplete record"
        )


def list_rows(document: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the records of a single object: columns by name, records under one key, or the object as one record."""
    values = list(document.values())
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        yield from name_cells([document["columns"], *document["data"]])
    elif (
        values
        and all(isinstance(value, list) for value in values)
        and len({*map(len, values)}) == 1
        and is_flat(values)
    ):
        yield from (dict(zip(document, row, strict=True)) for row in zip(*values, strict=True))
    elif values and all(isinstance(value, dict) and is_flat([list(value.values())]) for value in values):
        rows = dict.fromkeys(row for value in values for row in value)
        yield from ({name: value.get(row) for name, value in document.items()} for row in rows)
    elif len(lists := [value for value in values if is_records(value)]) == 1:
        yield from lists[0]
    else:
        yield document


def is_flat(columns: list[list[Any]]) -> bool:
    """Return whether columns hold only scalar values."""
    return not any(isinstance(value, dict | list) for column in columns for value in column)


def is_records(value: Any) -> bool:
    """Return whether a value is a non-empty array of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(record, dict) for record in value)


def name_cells(values: Iterator[Any] | list[Any]) -> Iterator[Any]:
    """Yield records; if they are arrays, the first one names the columns."""
    names: list[str] | None = None
    for value in values:
        if not isinstance(value, list):
            yield value
        elif names is None:
            names = [str(name) for name in value]
        elif len(value) == len(names):
            yield dict(zip(names, value, strict=True))
        else:
            yield value


def name_type(value: Any) -> str:
    """Describe the type of a JSON value, or its value if it is a scalar."""
    return "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else f"{value!r}"


def write_json_cell(value: Any) -> str:
    """Return a value as a string; numbers are strings already.

    >>> write_json_cell(None), write_json_cell(True), write_json_cell("1.50")
    ('', 'true', '1.50')
    """
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
