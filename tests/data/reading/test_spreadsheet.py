"""Spreadsheets: what stands in a cell is what is read, in every format and by either library."""

import zipfile
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
import xlwt
from labkit.data.reading.raw_table import RawTable, Source
from labkit.data.reading.spreadsheet import Spreadsheet
from labkit.errors import LabkitError
from labkit.params.tables import Table

CELLS = [
    [1, 2.5, "x", True, datetime(2024, 1, 2, 3, 4, 5), date(2024, 1, 2), time(3, 4), timedelta(hours=30, minutes=5)],
    [-12345678901234, 0.1, "007", False, datetime(2024, 1, 2), None, None, None],
    ["merged", None, " pad ", None, None, None, None, None],
]
AS_STRINGS = [
    ["1", "2.5", "x", "True", "2024-01-02T03:04:05", "2024-01-02", "03:04:00", "1 day, 6:05:00"],
    ["-12345678901234", "0.1", "007", "False", "2024-01-02", "", "", ""],
    ["merged", "", " pad ", "", "", "", "", ""],
]


def write_book(path: Path, rows: list[list[Any]], change: Callable[[Any], object] = lambda sheet: None) -> Path:
    """Write a sheet called `one` with names above the rows."""
    book = openpyxl.Workbook()
    book.active.title = "one"
    for row in [[f"c{place}" for place in range(8)], *rows]:
        book.active.append(row)
    change(book.active)
    book.save(path)
    return path


def open_sheet(path: Path, **fields: Any) -> Spreadsheet:
    return Spreadsheet(path, Table(path=path.name, **fields), path.name)


def add_error(sheet: Any) -> None:
    """Put an error and a long number below the rows; the library that writes rounds the number."""
    sheet.append(["#DIV/0!", 4242])


def write_digits(path: Path) -> Path:
    """Write the rows with an error and a number of 17 digits below them."""
    with zipfile.ZipFile(write_book(path, CELLS, add_error)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b"<v>4242</v>", b"<v>12345678901234567</v>"))
    return path


@pytest.mark.parametrize("is_lossy", [False, True], ids=["calamine", "openpyxl"])
def test_both_libraries_give_the_same_cells(tmp_path: Path, is_lossy: bool) -> None:
    def change(sheet: Any) -> None:
        sheet.merge_cells("A4:B4")
        if is_lossy:
            add_error(sheet)

    opened = open_sheet(write_book(tmp_path / "t.xlsx", CELLS, change))
    assert opened.is_lossy is is_lossy
    assert list(opened.read_rows())[1:4] == AS_STRINGS


def test_errors_and_all_digits_are_read_as_they_are(tmp_path: Path) -> None:
    opened = open_sheet(write_digits(tmp_path / "t.xlsx"))
    assert list(opened.read_rows())[-1][:2] == ["#DIV/0!", "12345678901234567"]


def test_errors_that_a_format_does_not_give_are_noted(tmp_path: Path) -> None:
    cell = '<table:table-cell office:value-type="{}"{}><text:p>{}</text:p></table:table-cell>'
    error = cell.format("string", ' office:string-value="" calcext:value-type="error"', "#DIV/0!")
    number = cell.format("float", ' office:value="3"', "3")
    cells = [[cell.format("string", "", name) for name in "ab"], [number, error], [error, number]]
    names = {
        "office": "oasis:names:tc:opendocument:xmlns:office:1.0",
        "table": "oasis:names:tc:opendocument:xmlns:table:1.0",
        "text": "oasis:names:tc:opendocument:xmlns:text:1.0",
        "calcext": "org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0",
    }
    declared = " ".join(f'xmlns:{name}="urn:{address}"' for name, address in names.items())
    rows = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in cells)
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f"<office:document-content {declared}><office:body><office:spreadsheet><table:table table:name='one'>{rows}"
            "</table:table></office:spreadsheet></office:body></office:document-content>",
        )
    raw = RawTable("t", Table(path="t.ods"), [Source(tmp_path / "t.ods", "t.ods")])
    assert pa.concat_tables(raw.read()).to_pydict() == {"a": [3.0, None], "b": [None, 3.0]}
    (note,) = (note for note in raw.notes if "error" in note.finding)
    assert note.evidence == "2, such as #DIV/0!"


def test_blank_rows_and_columns_around_the_table_are_left_out(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for place, value in {"C4": "a", "D4": "b", "C5": 1, "D5": 2, "C7": 5}.items():
        book.active[place] = value
    book.save(tmp_path / "t.xlsx")
    opened = open_sheet(tmp_path / "t.xlsx")
    assert (opened.names, list(opened.read_rows())[1:]) == (["a", "b"], [["1", "2"], ["5", ""]])


def test_days_since_1904_are_read_as_such(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    book.active.append(["at"])
    book.active.append([datetime(2024, 1, 2)])
    book.save(tmp_path / "t.xlsx")
    assert list(open_sheet(tmp_path / "t.xlsx").read_rows())[1] == ["2024-01-02"]


def write_sheets(path: Path, *, hidden: tuple[str, ...] = (), **sheets: list[list[Any]]) -> Path:
    """Write a file of several sheets."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


TABLE = [["a"], [1]]


def test_only_visible_sheet_with_cells_is_meant(tmp_path: Path) -> None:
    path = write_sheets(tmp_path / "t.xlsx", hidden=("lists",), lists=TABLE, data=TABLE, Sheet3=[])
    assert open_sheet(path).sheet == "data"
    assert open_sheet(path, sheet="lists").sheet == "lists"
    with pytest.raises(LabkitError, match=r"2 sheets \('data', 'more'\): choose one by `sheet`"):
        open_sheet(write_sheets(tmp_path / "t.xlsx", hidden=("lists",), lists=TABLE, data=TABLE, more=TABLE))


def test_cells_beside_the_table_are_refused(tmp_path: Path) -> None:
    path = write_sheets(tmp_path / "t.xlsx", one=[["a", "b"], [1, 2], [3, 4, 5]])
    with pytest.raises(LabkitError, match="sheet 'one', row 3 has 3 cells, header 2: name every column"):
        list(open_sheet(path).read_batches())


def test_spreadsheet_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = write_sheets(tmp_path / "t.xlsx", one=TABLE)
    with pytest.raises(LabkitError, match="bytes uncompressed: raise `max_bytes` of the table"):
        open_sheet(path, max_bytes=100)


def test_old_excel_gives_the_same_cells(tmp_path: Path) -> None:
    book = xlwt.Workbook()
    sheet, day = book.add_sheet("one"), xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for place, value in enumerate(["a", "b", "c", "d"]):
        sheet.write(0, place, value)
    for place, value in enumerate([1, 2.5, True, "Köln"]):
        sheet.write(1, place, value)
    sheet.write(2, 0, datetime(2024, 1, 2), day)
    book.save(str(tmp_path / "t.xls"))
    assert list(open_sheet(tmp_path / "t.xls").read_rows())[1:] == [
        ["1", "2.5", "True", "Köln"],
        ["2024-01-02", "", "", ""],
    ]
