"""Read a sheet of an Excel or OpenDocument file as rows of strings; types are inferred by the same rules as for CSV.

This is the only module that uses python-calamine, which reads cells, and openpyxl, which reads the .xlsx files that
calamine would read with losses. Formulas yield the value that the spreadsheet program last stored.
"""

import itertools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from labkit.data.reading.formats import SPREADSHEETS
from labkit.data.reading.header import check_names, count_header_rows, join_rows
from labkit.data.reading.text_stream import PIECE_BYTES
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.names import normalize_spaces
from labkit.params.tables import Table

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

BLOCK_CELLS = 500_000
MOST_TITLES = 30
LONGEST_REST = 400
LOST = re.compile(rb'<c [^<>]*\bt="e"|<v>-?[0-9]{16,}</v>')
"""Cells of .xlsx that calamine does not return unchanged: errors such as #DIV/0!, and integers of many digits."""
FAULTY = re.compile(rb'calcext:value-type="error"')
"""Cells of .ods that hold an error, which calamine returns as empty."""


class Spreadsheet:
    """A sheet with checked column names, ready to be read repeatedly.

    Raises
    ------
    DataError
        The file is not a spreadsheet, or its header or rows are invalid.
    ParamsError
        The sheet does not exist, or there are several and none is named.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        check_archive(path, table, where)
        with open_book(path, where) as book:
            self.sheet = choose_sheet(book, table, where)
        with explain_workbook_faults(path, where):
            self.is_lossy, self.n_errors = has_lost_cells(path), count_errors(path)
        rows = list(itertools.islice(self.read_rows(), table.header_rows))
        if not rows:
            raise DataError(f"{where}: the sheet {self.sheet!r} is empty: set `sheet` to another")
        self.names = check_names(join_rows(rows), table, where)

    def read_rows(self) -> Iterator[list[str]]:
        """Yield the rows as strings, without blank rows and blank cells to the right of the last name."""
        cells = self.read_filled()
        # Of several header rows, one may be shorter than the others if a name spans several columns.
        head = list(itertools.islice(cells, self.table.header_rows))
        width = max((len(row) for _, row in head), default=0)
        for number, row in itertools.chain(head, cells):
            while len(row) > width and not row[-1].strip():
                row.pop()
            if len(row) > width:
                raise DataError(
                    f"{self.where}: sheet {self.sheet!r}, row {number:,} has {len(row)} cells, header {width}: "
                    "name every column, or remove the cells beside the table"
                )
            yield row + [""] * (width - len(row))

    def read_filled(self) -> Iterator[tuple[int, list[str]]]:
        """Yield row number and cells of the rows that are not blank, without trailing blank cells in header rows."""
        n_rows = 0
        for number, row in enumerate(self.read_cells(), 1):
            if number <= self.table.skip_lines or not any(cell.strip() for cell in row):
                continue
            while n_rows < self.table.header_rows and not row[-1].strip():
                row.pop()
            n_rows += 1
            yield number, row

    def read_cells(self) -> Iterator[list[str]]:
        """Yield every row of the sheet as strings, starting with the first."""
        read = read_lossless if self.is_lossy else read_quickly
        yield from read(self.path, self.sheet, self.where)

    def read_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the data rows as strings, in batches, with columns named by position."""
        rows = self.read_rows()
        for _ in range(count_header_rows(self.table)):
            next(rows, None)
        width = len(self.names)
        while block := list(itertools.islice(rows, max(1, BLOCK_CELLS // width))):
            arrays = [pa.array(column, pa.string()) for column in zip(*block, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, names=[str(place) for place in range(width)])


def read_quickly(path: Path, sheet: str, where: str) -> Iterator[list[str]]:
    """Yield every row of a sheet as strings, read with calamine."""
    with open_book(path, where) as book:
        for row in book.get_sheet_by_name(sheet).iter_rows():
            yield [write_sheet_cell(cell) for cell in row]


def read_lossless(path: Path, sheet: str, where: str) -> Iterator[list[str]]:
    """Yield every row of an .xlsx sheet as strings, read with openpyxl: slower, but with errors and all digits."""
    from openpyxl import load_workbook

    with explain_workbook_faults(path, where):
        book: Any = load_workbook(path, read_only=True, data_only=True)
        try:
            for row in book[sheet].iter_rows(values_only=True):
                yield [write_sheet_cell(cell) for cell in row]
        finally:
            book.close()


def has_lost_cells(path: Path) -> bool:
    """Return whether an .xlsx file holds cells that calamine does not return unchanged."""
    is_new = path.suffix.lower() in (".xlsx", ".xlsm")
    return is_new and any(True for _ in find_cells(path, r"xl/worksheets/[^/]*\.xml", LOST))


def count_errors(path: Path) -> int:
    """Return the number of error cells in an .ods file; 0 for other formats, where they are kept or unknown."""
    return sum(1 for _ in find_cells(path, r"content\.xml", FAULTY)) if path.suffix.lower() == ".ods" else 0


def find_cells(path: Path, parts: str, pattern: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yield the matches of a pattern in the members of an archive, without loading any member as a whole."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not re.fullmatch(parts, name):
                continue
            rest = b""
            with archive.open(name) as stream:
                while piece := stream.read(PIECE_BYTES):
                    window, end = rest + piece, 0
                    for found in pattern.finditer(window):
                        end = found.end()
                        yield found[0]
                    rest = window[max(end, len(window) - LONGEST_REST) :]


def find_title_rows(path: Path, table: Table, where: str, target: str) -> int:
    """Return the number of rows above the row that contains the target's name; 0 if it is the first row, or not found.

    These rows are titles, export dates or blank rows: all must have fewer filled cells than the row of names.
    """
    with open_book(path, where) as book:
        sheet = choose_sheet(book, table, where)
    widest = 0
    for number, cells in enumerate(itertools.islice(read_quickly(path, sheet, where), MOST_TITLES)):
        row = [normalize_spaces(cell).strip() for cell in cells]
        n_filled = sum(bool(cell) for cell in row)
        if target in row:
            return number if widest < n_filled else 0
        widest = max(widest, n_filled)
    return 0


def check_archive(path: Path, table: Table, where: str) -> None:
    """Reject a file that is empty, not a spreadsheet, or too large when decompressed."""
    if not path.stat().st_size:
        raise DataError(f"{where} is empty (0 bytes): is it the right file?")
    n_bytes = path.stat().st_size
    if path.suffix.lower() != ".xls":
        try:
            with zipfile.ZipFile(path) as archive:
                n_bytes = sum(part.file_size for part in archive.infolist())
        except (zipfile.BadZipFile, OSError) as error:
            raise refuse_workbook(path, where) from error
    if n_bytes > table.max_bytes:
        raise DataError(f"{where}: {n_bytes:,} bytes uncompressed: raise `max_bytes` of the table if that is expected")


def refuse_workbook(path: Path, where: str) -> DataError:
    """Return the error for a file that is not a spreadsheet, or is damaged."""
    ending = path.suffix.lower()
    kind = SPREADSHEETS.get(ending, "Excel")
    return DataError(f"{where}: not an {kind} file ({ending}), or truncated or damaged: save it again, or as CSV")


@contextmanager
def explain_workbook_faults(path: Path, where: str) -> Iterator[None]:
    """Convert errors of the spreadsheet libraries into a DataError with a message of our own."""
    from python_calamine import PasswordError

    try:
        yield
    except (DataError, ParamsError):
        raise
    except PasswordError as error:
        raise DataError(f"{where}: protected by a password: save it without a password") from error
    # Both libraries pass on any exception that a damaged part causes in their parsers; calamine may even panic.
    except BaseException as error:
        is_ours = isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError)
        if is_ours or (isinstance(error, OSError) and error.errno):
            raise
        raise refuse_workbook(path, where) from error


@contextmanager
def open_book(path: Path, where: str) -> Iterator["CalamineWorkbook"]:
    """Yield an open workbook.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    from python_calamine import CalamineWorkbook

    with explain_workbook_faults(path, where), CalamineWorkbook.from_path(path) as book:
        yield book


def choose_sheet(book: "CalamineWorkbook", table: Table, where: str) -> str:
    """Return the name of the declared sheet, or of the only sheet that is visible and not empty."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [sheet for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    names = [sheet.name for sheet in sheets]
    if table.sheet is not None:
        if table.sheet not in names:
            raise ParamsError(f"{where}: no sheet {table.sheet!r}: {name_nearest(table.sheet, names)}")
        return table.sheet
    if len(names) == 1:
        return names[0]
    visible = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
    filled = [name for name in visible if book.get_sheet_by_name(name).start is not None]
    if len(filled) != 1:
        shown = ", ".join(map(repr, filled or names)) if names else "none"
        raise ParamsError(f"{where}: {len(filled or names)} sheets ({shown}): choose one by `sheet`")
    return filled[0]


def write_sheet_cell(cell: object) -> str:
    """Return a cell as a string: integers without a decimal point, times in ISO 8601 format.

    >>> write_sheet_cell(12.0), write_sheet_cell(datetime(2024, 1, 2)), write_sheet_cell(None), write_sheet_cell(True)
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
