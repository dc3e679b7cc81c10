"""Read a delimited text file as strings: every row must have as many cells as the header.

For the conversion of strings to types, see `labkit.data.reading.column_types`. Arrow parses the file; if it reports an
error, Python's csv module reads the file again to find the line.
"""

import csv
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.csv as pcsv

from labkit.data.reading.header import check_names, count_header_rows, join_rows
from labkit.data.reading.text_scan import TextScan, scan_text
from labkit.data.reading.text_stream import Utf8Stream, open_bytes, open_text
from labkit.errors import DataError
from labkit.params.tables import Table

BLOCK_BYTES = 8 << 20
CSV_ROWS = 10_000
LONGEST_CELL = 1 << 20


class DelimitedFile:
    """A delimited text file, scanned and ready to be read repeatedly.

    Raises
    ------
    DataError
        The file is empty, not text or not in its encoding, or its header or rows are invalid.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        self.scan: TextScan = scan_text(path, table, where)
        self.names = check_names(self.read_header(), table, where)
        self.is_last_row_short = False
        if self.scan.has_quotes or table.allow_short_rows:
            self.walk()

    @contextmanager
    def open_lines(self) -> Iterator[TextIO]:
        """Yield the file as text, positioned after the skipped lines."""
        with open_text(self.path, self.table, self.where) as lines:
            for _ in range(self.table.skip_lines):
                lines.readline()
            yield lines

    def read_rows(self, lines: TextIO) -> Iterator[list[str]]:
        """Yield the rows as parsed by Python's csv module, without blank lines."""
        reader = make_reader(lines, self.table)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self.describe_quote(error, reader.line_num) from error
            if row:
                self.line = reader.line_num + self.table.skip_lines
                yield row

    def describe_quote(self, error: csv.Error, line: int) -> DataError:
        """Return the error that explains what is wrong with the quotes."""
        start = getattr(self, "line", self.table.skip_lines) + 1
        if "unexpected end of data" in str(error):
            return DataError(
                f"{self.where}: quote opened on line {start:,} never closed: is the file truncated? If not, set "
                "`quote: ''`"
            )
        if "field larger" in str(error):
            return DataError(
                f"{self.where}: a cell that begins on line {start:,} has more than {LONGEST_CELL:,} characters: is a "
                "quote not closed?"
            )
        return DataError(
            f"{self.where}: line {line + self.table.skip_lines:,}: a cell continues after its closing quote: double "
            "the quotes inside of a cell, or set `quote` or `escape`"
        )

    def read_header(self) -> list[str]:
        """Return the column names from the first row, or joined from several header rows."""
        with self.open_lines() as lines:
            rows = list(itertools.islice(self.read_rows(lines), self.table.header_rows))
        if not rows:
            raise DataError(
                f"{self.where} is empty (no row after {self.table.skip_lines} lines): is it the right file?"
            )
        return join_rows(rows)

    def walk(self) -> None:
        """Read every row and raise an error for the first with a different number of cells than the header."""
        wanted, n_bad, bad = len(self.names), 0, (0, 0)
        n_rows, lengths = 0, set()
        with self.open_lines() as lines:
            for row in self.read_rows(lines):
                n_rows += 1
                found = len(row)
                self.is_last_row_short = found < wanted and not self.scan.has_last_newline
                if found != wanted and not (self.table.allow_short_rows and found < wanted):
                    bad = bad if n_bad else (self.line, found)
                    n_bad += 1
                    lengths.add(found)
                    last = self.line
        if n_bad:
            all_rows = n_bad == n_rows - count_header_rows(self.table) and len(lengths) == 1
            raise self.describe_ragged(bad, n_bad, is_all=all_rows and n_bad > 1, is_last=last == self.scan.n_lines)

    def describe_ragged(self, first: tuple[int, int], n_bad: int, *, is_all: bool, is_last: bool) -> DataError:
        """Return the error that names the rows with too few or too many cells."""
        line, found = first
        wanted = len(self.names)
        if is_all:
            return DataError(f"{self.where}: rows have {found} fields, header {wanted}: fix the header")
        if n_bad == 1 and is_last and found < wanted and not self.scan.has_last_newline:
            return DataError(
                f"{self.where}: last line {line:,} has {found} of {wanted} fields and no newline: truncated? Copy the "
                "file again, or remove the line"
            )
        others = f" ({n_bad:,} such rows)" if n_bad > 1 else ""
        remedy = "fix the line, or set `allow_short_rows: true`" if found < wanted else "fix the line, or its quotes"
        return DataError(f"{self.where}: line {line:,} has {found} fields, header {wanted}{others}: {remedy}")

    def read_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as strings, in batches of similar size, with columns named by position.

        Raises
        ------
        DataError
            The file cannot be divided into rows and cells as declared.
        """
        if self.scan.n_lines <= self.table.skip_lines + count_header_rows(self.table):
            return
        if self.table.allow_short_rows:
            yield from self.read_slowly()
            return
        try:
            with open_bytes(self.path, most_bytes=self.table.max_bytes, where=self.where) as stream:
                utf8 = Utf8Stream(stream, self.table.encoding)
                yield from pcsv.open_csv(utf8, **make_options(self.table, len(self.names), self.scan.has_quotes))
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            self.walk()
            raise DataError(
                f"{self.where}: cannot be parsed as declared: check `quote`, `escape` and `delimiter`"
            ) from error

    def read_slowly(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows like `read_batches`, with short rows padded with empty cells."""
        width = len(self.names)
        with self.open_lines() as lines:
            rows = self.read_rows(lines)
            for _ in range(count_header_rows(self.table)):
                next(rows)
            while block := list(itertools.islice(rows, CSV_ROWS)):
                columns = zip(*(row + [""] * (width - len(row)) for row in block), strict=True)
                arrays = [pa.array(column, pa.string()) for column in columns]
                yield pa.RecordBatch.from_arrays(arrays, names=[str(place) for place in range(width)])


def make_reader(lines: TextIO, table: Table) -> Any:
    """Return Python's csv reader for a table, with a limit on the length of a cell."""
    csv.field_size_limit(LONGEST_CELL)
    return csv.reader(
        lines,
        delimiter=table.delimiter,
        quotechar=table.quote or None,
        quoting=csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE,
        escapechar=table.escape or None,
        doublequote=not table.escape,
        strict=True,
    )


def make_options(table: Table, n_columns: int, has_quotes: bool) -> dict[str, object]:
    """Return Arrow's options: all columns are strings named by position, and nothing is treated as missing."""
    places = [str(place) for place in range(n_columns)]
    return {
        "read_options": pcsv.ReadOptions(
            use_threads=False,
            block_size=BLOCK_BYTES,
            skip_rows=table.skip_lines,
            column_names=places,
            skip_rows_after_names=count_header_rows(table),
        ),
        "parse_options": pcsv.ParseOptions(
            delimiter=table.delimiter,
            quote_char=table.quote or False,
            double_quote=not table.escape,
            escape_char=table.escape or False,
            newlines_in_values=has_quotes,
        ),
        "convert_options": pcsv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False, check_utf8=False
        ),
    }
