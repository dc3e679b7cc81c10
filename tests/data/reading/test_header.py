"""Headers of several rows: found where they are, and only there, and joined to names that can be typed."""

import csv
import io
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from labkit.data.reading.header import count_name_rows, join_rows
from labkit.data.reading.raw_table import RawTable, Source
from labkit.errors import LabkitError
from labkit.params.tables import Table

SURVEY = "id,Fly?,,Age,Visited,,\n,Response,Why,Response,Rome,Oslo,Lima\n" + "".join(
    f"{n},{'Yes' if n % 2 else 'No'},{'fun' if n % 3 else 'work'},{n % 4 * 10}+,{'Rome' if n % 2 else ''},"
    f"{'Oslo' if n % 3 else ''},{'Lima' if n % 5 else ''}\n"
    for n in range(20)
)
NUMBERS = "".join(f"{n},{n * 7 % 11},{'abc'[n % 3]}\n" for n in range(20))
DATES = "".join(f"2020-01-{n + 1:02d} 10:00,{n * 7 % 11},{'abc'[n % 3]}\n" for n in range(20))
WORDS = "".join(f"{'abc'[n % 3]},{'xyz'[n % 3]},{'pq'[n % 2]}\n" for n in range(20))
CONTENTS = "".join(f"name {n},some words {n * n},more {n * 7}\n" for n in range(20))
HEADERS = {
    "survey": (SURVEY, 2),
    "one question a column": ("Age,Cars,Fan?\nResponse,Open-Ended Response,Response\n" + NUMBERS, 2),
    "questions above dates": ("at,Q1,Q2\nStart Date,How old?,Why?\n" + DATES, 2),
    "a date that is not known": ("at,Q1,Q2\nunknown,3,a\n" + DATES, 1),
    "units": ("speed,height,kind\n(km/h),(m),\n" + NUMBERS, 2),
    "names, questions and their numbers": ("Q1,Q2,Q3\nHow old?,How many?,Which?\n{1},{2},{3}\n" + NUMBERS, 3),
    "the names again": ("a,b,c\na,b,c\n" + NUMBERS, 2),
    "two levels": (",A,A\n,x,y\n" + "".join(f"r{n},{n},{n * 3 % 7}\n" for n in range(20)), 2),
    "plain": ("a,b,c\n" + NUMBERS, 1),
    "plain words": ("a,b,c\n" + WORDS, 1),
    "plain strings": ("a,b,c\n" + CONTENTS, 1),
    "one odd value": ("a,b,c\nunknown,3,a\n" + NUMBERS, 1),
    "missing values": ("a,b,c\nNA,N/A,a\n" + NUMBERS, 1),
    "columns without a name": ("a,,\n" + NUMBERS, 1),
    "words without a name": ("a,,\n" + WORDS, 1),
    "strings without a name": ("a,,\n" + CONTENTS, 1),
    "two rows": ("a,b\n1,x\n", 1),
    "one row": ("a,b\n", 1),
}


def parse(content: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(content)) if row]


@pytest.mark.parametrize("name", HEADERS)
def test_rows_of_names_are_counted(name: str) -> None:
    content, n_rows = HEADERS[name]
    assert count_name_rows(parse(content)) == n_rows


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (parse(SURVEY)[:2], ["id", "Fly?", "Fly?: Why", "Age", "Visited: Rome", "Visited: Oslo", "Visited: Lima"]),
        ([["a", "b"], ["km", "m"]], ["a", "b"]),
        ([["", "A", "A", "B"], ["", "x", "y", "z"], ["i", "", "", ""]], ["i", "A: x", "A: y", "B"]),
        ([["A", "", ""], ["x", "", "y"]], ["A: x", "A", "A: y"]),
        ([["A", "", "B", ""], ["x", "y", "x", "y"]], ["A: x", "A: y", "B: x", "B: y"]),
        ([["A", ""], ["x"]], ["A: x", "A"]),
    ],
)
def test_names_are_joined(rows: list[list[str]], names: list[str]) -> None:
    assert join_rows(rows) == names


def read(path: Path, **fields: Any) -> pa.Table:
    table = Table(path=path.name, **fields)
    return pa.concat_tables(RawTable("t", table, [Source(path, path.name)]).read())


CHECKBOXES = ("Visited: Rome", "Visited: Oslo", "Visited: Lima")


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
@pytest.mark.parametrize("fields", [{}, {"allow_short_rows": True}], ids=["quick", "slow"])
def test_declared_header_and_checkboxes_are_read(tmp_path: Path, ending: str, fields: dict[str, Any]) -> None:
    path = tmp_path / f"t{ending}"
    if ending == ".csv":
        path.write_text(SURVEY)
    else:
        book = openpyxl.Workbook()
        for row in parse(SURVEY):
            book.active.append([cell or None for cell in row])
        book.save(path)
    found = read(path, header_rows=2, checkboxes=CHECKBOXES, **fields)
    assert found.num_rows == 20
    assert found["Visited: Oslo"].to_pylist() == [n % 3 != 0 for n in range(20)]
    assert found["Fly?"].to_pylist()[:2] == ["No", "Yes"]


def test_checkbox_with_another_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n2,\n3,y\n")
    message = r"t\.csv: column 'b', row 3: 'y' beside 'x': a checkbox holds one word or nothing: take the column out of"
    with pytest.raises(LabkitError, match=message):
        read(path, checkboxes=("b",))
    with pytest.raises(LabkitError, match=r"data\.tables\.t\.checkboxes: no column 'c'"):
        read(path, checkboxes=("c",))
