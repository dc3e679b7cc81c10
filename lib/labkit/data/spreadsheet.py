"""One sheet of an Excel file as rows of texts, read cell by cell: the same rules as for CSV tell its types.

Sole owner of openpyxl. Formulas give the value that Excel last saw.
"""

import itertools
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa

from labkit.data.delimited import check_names
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.params import Table

BLOCK_CELLS = 500_000
MOST_TITLES = 30


class Spreadsheet:
    """One sheet, its names checked, ready to be read as often as needed.

    Raises
    ------
    DataError
        It is no Excel file, or its header or rows are not as they must be.
    ParamsError
        There is no such sheet, or several and none is named.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        check_archive(path, table, where)
        self.sheet = choose_sheet(list_sheets(path, where), table, where)
        first = next(self.read_rows(), [])
        if not first:
            raise DataError(f"{where}: the sheet {self.sheet!r} is empty: name another as `sheet`")
        self.names = check_names(first, table, where)

    def read_rows(self) -> Iterator[list[str]]:
        """Yield the rows as texts, blank ones and blank cells beyond the first row's last one left out."""
        book = open_book(self.path, self.where)
        width = 0
        try:
            for number, cells in enumerate(book[self.sheet].iter_rows(values_only=True), 1):
                if number <= self.table.skip_lines:
                    continue
                row = [write_cell(cell) for cell in cells]
                while row and (len(row) > width if width else True) and not row[-1].strip():
                    row.pop()
                if not any(cell.strip() for cell in row):
                    continue
                width = width or len(row)
                if len(row) > width:
                    raise DataError(
                        f"{self.where}: sheet {self.sheet!r}, row {number:,} has {len(row)} cells, header {width}: "
                        "name every column, or remove what stands beside the table"
                    )
                yield row + [""] * (width - len(row))
        finally:
            book.close()

    def read_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as texts, columns by their places."""
        rows = self.read_rows()
        if self.table.header is not False:
            next(rows)
        width = len(self.names)
        while block := list(itertools.islice(rows, max(1, BLOCK_CELLS // width))):
            arrays = [pa.array(column, pa.string()) for column in zip(*block, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, names=[str(place) for place in range(width)])


def find_title_rows(path: Path, table: Table, where: str, target: str) -> int:
    """Return the number of rows above the one that names the target; 0 where the first row does, or none.

    Titles, dates of export and blank rows stand there: rows with fewer cells than the row of names.
    """
    sheet = choose_sheet(list_sheets(path, where), table, where)
    book = open_book(path, where)
    try:
        widest = 0
        for number, cells in enumerate(book[sheet].iter_rows(max_row=MOST_TITLES, values_only=True)):
            row = [write_cell(cell).strip() for cell in cells]
            n_filled = sum(bool(cell) for cell in row)
            if target in row:
                return number if widest < n_filled else 0
            widest = max(widest, n_filled)
        return 0
    finally:
        book.close()


def check_archive(path: Path, table: Table, where: str) -> None:
    """Refuse a file that is no Excel file, or one that unpacks to too much."""
    if not path.stat().st_size:
        raise DataError(f"{where} is empty (0 bytes): is it the right file?")
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{where}: not an Excel file (.xlsx), or cut short: save it again, or as CSV") from error
    if n_bytes > table.max_bytes:
        raise DataError(f"{where}: {n_bytes:,} bytes unpacked: raise `max_bytes` of the table if that is right")


def open_book(path: Path, where: str) -> Any:
    """Open an Excel file for reading row by row.

    Raises
    ------
    DataError
        It cannot be read.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(f"{where}: Excel files need openpyxl: `pip install openpyxl`, or save it as CSV") from error
    try:
        return load_workbook(path, read_only=True, data_only=True)
    # openpyxl lets through whatever a damaged part of the archive makes its parsers raise.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: not an Excel file, or damaged ({reason}): save it again, or as CSV") from error


def list_sheets(path: Path, where: str) -> list[str]:
    """Return the names of the sheets that hold cells."""
    book = open_book(path, where)
    try:
        return [sheet.title for sheet in book.worksheets]
    finally:
        book.close()


def choose_sheet(names: list[str], table: Table, where: str) -> str:
    """Return the sheet that is meant."""
    if table.sheet is not None:
        if table.sheet not in names:
            raise ParamsError(f"{where}: no sheet {table.sheet!r}: {name_nearest(table.sheet, names)}")
        return table.sheet
    if len(names) != 1:
        shown = ", ".join(map(repr, names)) if names else "none"
        raise ParamsError(f"{where}: {len(names)} sheets ({shown}): say which one by `sheet`")
    return names[0]


def write_cell(cell: object) -> str:
    """Return a cell as text: whole numbers without a fraction, times in ISO form.

    >>> write_cell(12.0), write_cell(datetime(2024, 1, 2)), write_cell(None), write_cell(True)
    ('12', '2024-01-02', '', 'True')
    """
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep="T")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    return repr(cell) if isinstance(cell, float) else str(cell)
