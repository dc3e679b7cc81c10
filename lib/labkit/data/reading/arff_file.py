"""Read ARFF files, as used by Weka and OpenML: nominal attributes are categories, whatever their values look like.

This is the only module that uses liac-arff, which splits lines into values. Numbers are parsed here, integers to the
last digit. Dates stay strings; `labkit.new.column_kinds` detects their format.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from labkit.data.reading import column_types
from labkit.data.reading.reader import Remark
from labkit.data.reading.text_scan import scan_text
from labkit.data.reading.text_stream import open_text
from labkit.errors import DataError
from labkit.params.tables import Table

BLOCK_ROWS = 20_000
ATTRIBUTE = re.compile(
    r"(\s*@attribute\s+(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)\s+)(numeric|real|integer|date)\b.*", re.I | re.S
)
DATA = re.compile(r"\s*@data\b", re.I)


class ArffReader:
    """An ARFF file, scanned once to find which numeric columns are integers.

    Raises
    ------
    DataError
        The file is not ARFF, or a nominal value is not one that its attribute declares.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        self.line = 0
        self.numeric: set[str] = set()
        self.remarks: list[Remark] = []
        self.n_rows, self.n_bytes = 0, scan_text(path, table, where).n_bytes
        fractional: set[str] = set()
        for block in self.read_blocks(BLOCK_ROWS):
            self.n_rows += block.num_rows
            for name in self.numeric - fractional:
                column = block.column(name)
                if column.null_count or column_types.to_whole(column, self.plain) is None:
                    fractional.add(name)
        self.whole = self.numeric - fractional
        self.schema = pa.schema([(name, self.find_type(name)) for name in self.names])

    @property
    def plain(self) -> Table:
        """The number notation of ARFF, whatever the table sets for delimited files."""
        return Table(path=self.path.name)

    def find_type(self, name: str) -> pa.DataType:
        """Return the type of a column."""
        return pa.int64() if name in self.whole else pa.float64() if name in self.numeric else pa.string()

    def read_lines(self, lines: Iterator[str]) -> Iterator[str]:
        """Yield the lines, keeping count, with numeric and date attributes redeclared as strings."""
        is_header = True
        for self.line, line in enumerate(lines, 1):
            is_header = is_header and not DATA.match(line)
            found = ATTRIBUTE.fullmatch(line) if is_header else None
            yield f"{found[1]}STRING\n" if found else line

    def read_blocks(self, n_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all rows as strings.

        Raises
        ------
        DataError
            A line is invalid; names the line.
        """
        import arff

        with open_text(self.path, self.table, self.where) as lines:
            try:
                opened = arff.load(self.read_lines(lines), return_type=arff.DENSE_GEN)
                self.names = [name for name, _ in opened["attributes"]]
                self.find_numeric()
                rows = iter(opened["data"])
                while block := list(itertools.islice(rows, n_rows)):
                    columns = [pa.array(column, pa.string()) for column in zip(*block, strict=True)]
                    yield pa.RecordBatch.from_arrays(columns, names=self.names)
            except arff.ArffException as error:
                raise DataError(f"{self.where}: line {self.line:,}: {self.describe(error)}") from error

    def find_numeric(self) -> None:
        """Find the numeric attributes in the header."""
        with open_text(self.path, self.table, self.where) as lines:
            header = itertools.takewhile(lambda line: not DATA.match(line), lines)
            kinds = [(ATTRIBUTE.fullmatch(line)) for line in header if re.match(r"\s*@attribute\b", line, re.I)]
        pairs = zip(self.names, kinds, strict=True)
        self.numeric = {name for name, found in pairs if found and found[2].lower() != "date"}

    def describe(self, error: Any) -> str:
        """Describe what is wrong with a line."""
        import arff

        value = str(error).partition("Data value ")[2].partition(" not found")[0]
        messages = {
            arff.BadNominalValue: f"{value!r} is not a declared value of its attribute: add it to the header",
            arff.BadDataFormat: f"not one value for each of the {len(getattr(self, 'names', ()))} attributes: correct "
            "the line, or its quotes",
            arff.BadAttributeType: "an attribute that is not numeric, nominal, string or date: leave it out",
            arff.BadAttributeName: "an attribute of that name is declared above: rename one",
        }
        return messages.get(type(error), "not an ARFF file, or its quotes or header are wrong: write the file again")

    def read_batches(self, n_rows: int) -> Iterator[pa.Table]:
        """Yield all rows in batches of at most `n_rows`, with numbers parsed.

        Raises
        ------
        DataError
            A value of a numeric attribute is not a number.
        """
        n_before = 0
        for block in self.read_blocks(n_rows):
            columns = [self.convert(block.column(name), name, n_before) for name in self.names]
            n_before += block.num_rows
            yield pa.Table.from_arrays(columns, schema=self.schema)

    def convert(self, values: pa.StringArray, name: str, n_before: int) -> pa.Array:
        """Convert a column to its type; raise an error for the first value that is not a number."""
        if name not in self.numeric:
            return values
        found = column_types.to_whole(values, self.plain) if name in self.whole else None
        found = found if found is not None else column_types.to_numbers(values, self.plain)
        if found is None:
            strings = values.to_pylist()
            row, string = next(
                (row, string)
                for row, string in enumerate(strings, n_before + 1)
                if string and not is_number(string, self.plain)
            )
            raise DataError(
                f"{self.where}: column {name!r}, row {row:,}: {string!r} is not a number: correct the file, or declare "
                "the attribute as a string"
            )
        return found


def is_number(string: str, table: Table) -> bool:
    """Return whether a string is a number."""
    return column_types.to_numbers(pa.array([string]), table) is not None
