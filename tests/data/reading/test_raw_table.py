"""Strict reading: what is not as declared is refused with column, row and remedy."""

import gzip
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labkit.data.reading.raw_table import Note, RawTable, Source, frame_notes
from labkit.errors import LabkitError
from labkit.params.tables import Table

from tests.conftest import ROOT


def open_text(folder: Path, content: str | bytes, name: str = "t.csv", **fields: Any) -> RawTable:
    """Write a file and open it as declared."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = Table(path=name, **fields)
    return RawTable("t", table, [Source(path, name)]).check()


def read_text(folder: Path, content: str | bytes, name: str = "t.csv", **fields: Any) -> pd.DataFrame:
    """Write a file and read it as declared."""
    return pa.concat_tables(open_text(folder, content, name, **fields).read()).to_pandas()


NUMBERS = "".join(f"{n}\n" for n in range(50))
REFUSED: list[tuple[str, str | bytes, dict[str, Any], str]] = [
    ("skipped column that is not there", "a,y\n1,2\n2,3\n", {"skip": ("A",)},
     "data.tables.t.skip: no column 'A': did you mean 'a'?"),
    ("one column of two", "a;y\n1;2\n2;3\n", {"times": ("y",)}, "data.tables.t.times: no column 'y'"),
    ("decimal comma", 'a,b\n"1,5",x\n"2,25",y\n"3,0",z\n', {}, "column 'a': 100 % look like numbers with a decimal com"),
    ("thousands", 'a,b\n"1,500",x\n"2,250",y\n"3,000",z\n', {}, "look like numbers with ',' between thousands, first '1,"),
    ("word among numbers", f"a\n{NUMBERS}foo\n", {}, "column 'a', row 51: 'foo' is not a number (1 such row of 51)"),
    ("infinite", "a,b\n1,x\ninf,y\n", {}, "column 'a', row 2: 'inf' is not a finite number (1 such rows)"),
    ("huge with missing values", "a,b\n9007199254740993,x\n,y\n", {}, "row 1: 9007199254740993 is too large to be kept to the last"),
    ("beyond 64 bits", "a,b\n18446744073709551617,x\n2,y\n", {}, "is too large to be kept to the last digit: name the"),
    ("header of numbers", "5.1,3.5\n4.9,3.0\n", {}, "header looks like data ('5.1'; '3.5'): set `header` to true"),
    ("two names alike", "a,a\n1,2\n", {}, "duplicate column names: 'a': rename them in the file"),
    ("no name", "a,,b\n1,2,3\n", {}, "columns without a name: 2: name them in the file, or set `name_unnamed: true`"),
    ("short row", "a,b\n1,2\n3\n4,5\n", {}, "line 3 has 1 fields, header 2: fix the line, or set `allow_short_rows: tr"),
    ("short rows, many", "a,b\n1,2\n3\n4\n5,6\n", {}, "line 3 has 1 fields, header 2 (2 such rows)"),
    ("long row, quoted", 'a,b\n"1",2\n1,2,3\n', {}, "line 3 has 3 fields, header 2: fix the line, or its quotes"),
    ("too many rows", f"a\n{NUMBERS}", {"max_rows": 40}, "more than 40 rows: raise `max_rows` of the table"),
    ("too many bytes", f"a\n{NUMBERS}", {"max_bytes": 40}, "more than 40 bytes uncompressed: raise `max_bytes`"),
    ("too many columns", "a,b,c\n1,2,3\n", {"max_columns": 2}, "3 columns: raise `max_columns` of the table (2)"),
    ("utf-16 not declared", "a,b\n1,2\n".encode("utf-16"), {}, "UTF-16 (byte-order mark): set `encoding: utf-16`"),
    ("not in the encoding", "a\né\n".encode("cp1252"), {}, "not UTF-8 (byte 0xE9, line 2); looks like cp1252"),
    ("no ISO time", "a\n2024-01-01\n2024-13-01\n", {"times": ("a",)}, "row 2: '2024-13-01' is not an ISO time"),
    ("not in the format", "a\n01.02.2024\n2.2.24\n", {"times": ("a",), "formats": {"a": "%d.%m.%Y"}},
     "row 2: '2.2.24' is not a time written as %d.%m.%Y"),
    ("times with and without zone", "a\n2024-01-01T00:00Z\n2024-01-02T00:00\n", {"times": ("a",)},
     "column a, row 2: '2024-01-02T00:00' has no offset from UTC, '2024-01-01T00:00Z' does: write all times in one"),
    ("Parquet named CSV", b"PAR1" + bytes(50), {}, "not a text file (Parquet): rename it with its true extension, .parquet"),
    ("JSON named CSV", '[{"a": 1}]', {}, "t.csv: a JSON file: rename it with the extension .json"),
    ("gzip named CSV", gzip.compress(b"a\n1\n"), {}, "gzip data: rename it to t.csv.gz"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "fields", "message"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_is_not_as_declared_is_refused(
    tmp_path: Path, content: str | bytes, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabkitError) as refused:
        read_text(tmp_path, content, **fields)
    assert message in str(refused.value)
    assert refused.value.exit_code == 2


READ: list[tuple[str, str | bytes, dict[str, Any], list[Any], str]] = [
    ("whole numbers", "a,b\n1,x\n+2,y\n", {}, [1, 2], "int64"),
    ("whole numbers with missing values", "a,b\n1,x\n,y\n", {}, [1.0, None], "float64"),
    ("large whole numbers", "a,b\n9007199254740993,x\n1,y\n", {}, [9007199254740993, 1], "int64"),
    ("blanks around numbers", "a,b\n 1 ,x\n2.5,y\n", {}, [1.0, 2.5], "float64"),
    ("blanks alone", "a,b\n  ,x\n2,y\n", {}, [None, 2.0], "float64"),
    ("hexadecimal is no number", "a,b\n0x1f,x\n0x20,y\n", {}, ["0x1f", "0x20"], "str"),
    ("later words", f"a\n{NUMBERS}" + "x\n" * 40, {}, [str(n) for n in range(50)] + ["x"] * 40, "str"),
    ("yes and no", "a,b\nTrue,x\nfalse,y\n", {}, [True, False], "bool"),
    ("nothing", "a,b\n,x\n,y\n", {}, [None, None], "float64"),
    ("words for missing", "a,b\nNA,x\nDE,y\n", {}, [None, "DE"], "str"),
    ("NA declared a word", "a,b\nNA,x\nDE,y\n", {"missing": ("",)}, ["NA", "DE"], "str"),
    ("leading zeros", "a,b\n007,x\n1,y\n", {}, [7, 1], "int64"),
    ("leading zeros declared", "a,b\n007,x\n1,y\n", {"texts": ("a",)}, ["007", "1"], "str"),
    ("decimal comma", "a;b\n1.234,5;x\n-2;y\n", {"delimiter": ";", "decimal": ",", "thousands": "."},
     [1234.5, -2.0], "float64"),
    ("thousands of whole numbers", "a;b\n1 234;x\n2;y\n", {"delimiter": ";", "thousands": " "}, [1234, 2], "int64"),
    ("infinite allowed", "a,b\n1,x\ninf,y\n", {"allow_infinite": True}, [1.0, None], "float64"),
    ("no header", "1,x\n2,y\n", {"header": False}, [1, 2], "int64"),
    ("unnamed", ",b\n1,x\n2,y\n", {"name_unnamed": True}, [1, 2], "int64"),
    ("short rows", "a,b\n1,x\n2\n", {"allow_short_rows": True}, [1, 2], "int64"),
    ("quotes inside", 'a,b\n"say ""no""",x\n"a\nb",y\n', {}, ['say "no"', "a\nb"], "str"),
    ("escaped quotes", 'a,b\n"say \\"no\\"",x\n"c",y\n', {"escape": "\\"}, ['say "no"', "c"], "str"),
    ("no quotes at all", 'a,b\n5",x\n"6,y\n', {"quote": ""}, ['5"', '"6'], "str"),
    ("lines before the table", "made by hand\na,b\n1,x\n2,y\n", {"skip_lines": 1}, [1, 2], "int64"),
    ("skipped columns", "z,a,b\nq,1,x\nr,2,y\n", {"skip": ("z",)}, [1, 2], "int64"),
    ("days", "a,b\n01.02.2024,x\n,y\n", {"times": ("a",), "formats": {"a": "%d.%m.%Y"}},
     [pd.Timestamp("2024-02-01"), None], "datetime64[us]"),
    ("times in a zone", "a,b\n2024-02-01T01:00+01:00,x\n,y\n", {"times": ("a",)},
     [pd.Timestamp("2024-02-01", tz="UTC"), None], "datetime64[us, UTC]"),
    ("times of several offsets", "a,b\n2024-02-01T01:00+01:00,x\n,y\n2024-07-01 02:00:00.5-0400,z\n2024-07-01T00:00Z,z\n",
     {"times": ("a",)}, [pd.Timestamp("2024-02-01", tz="UTC"), None, pd.Timestamp("2024-07-01 06:00:00.5", tz="UTC"),
                         pd.Timestamp("2024-07-01", tz="UTC")], "datetime64[us, UTC]"),
    ("times of several offsets by a format", "a,b\n01.02.2024 01:00 +0100,x\n01.07.2024 02:00 +0200,y\n",
     {"times": ("a",), "formats": {"a": "%d.%m.%Y %H:%M %z"}},
     [pd.Timestamp("2024-02-01", tz="UTC"), pd.Timestamp("2024-07-01", tz="UTC")], "datetime64[us, UTC]"),
    ("far days", "a,b\n0001-01-01,x\n9999-12-31,y\n", {"times": ("a",)},
     [pd.Timestamp("0001-01-01"), pd.Timestamp("9999-12-31")], "datetime64[us]"),
    ("accents", "a,b\né,x\nß,y\n".encode("cp1252"), {"encoding": "cp1252"}, ["é", "ß"], "str"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "fields", "values", "dtype"), [case[1:] for case in READ], ids=[c[0] for c in READ]
)
def test_what_is_declared_is_read(
    tmp_path: Path, content: str | bytes, fields: dict[str, Any], values: list[Any], dtype: str
) -> None:
    frame = read_text(tmp_path, content, **fields)
    column = frame.iloc[:, 0]
    assert str(column.dtype) == dtype
    assert [None if pd.isna(value) else value for value in column] == values


NOTES = [
    ("a,b\n007,x\n1,y\n", Note("t", "a", "codes with leading zeros", "1 numbers begin with 0", "data.tables.t.texts: [a]")),
    ("a,b\nNA,x\nDE,y\n", Note("t", "a", "words taken as missing", "1 × 'NA'", "if they are values: data.tables.t.missing: ['']")),
    ("a,b\n,x\n,y\n", Note("t", "a", "empty", "no value in any row", "wrangling.drop: {a: …}")),
    ("a\u200b,b\n1,x\n", Note("t", "a\u200b", "invisible characters in the name", r"'a\u200b'", "rename it")),
    ("a,b\nYes,x\nno,y\nYES,x\nNo,z\n",
     Note("t", "a", "yes and no in several spellings", "No; YES; Yes; no", "fix the file")),
]  # fmt: skip


@pytest.mark.parametrize(("content", "note"), NOTES, ids=[note.finding for _, note in NOTES])
def test_notes_on_a_table_are_reported(tmp_path: Path, content: str, note: Note) -> None:
    assert open_text(tmp_path, content).notes == [note]


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".parquet", ".json", ".feather"])
def test_names_match_whatever_kind_of_space_they_hold(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"the\u00a0day": ["2024-01-02"], "left\u2003out": [1], "a b": [2]})
    path = tmp_path / f"t{ending}"
    writers: dict[str, Any] = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".xlsx": lambda: frame.to_excel(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
        ".json": lambda: frame.to_json(path, orient="records"),
        ".feather": lambda: frame.to_feather(path),
    }
    writers[ending]()
    table = Table(path=path.name, times=("the\u202fday",), skip=("left out",))
    found = pa.concat_tables(RawTable("t", table, [Source(path, path.name)]).read())
    assert found.to_pydict() == {"the day": [pd.Timestamp("2024-01-02")], "a b": [2]}


@pytest.mark.parametrize(
    ("end", "is_noted"), [("1,y\n", False), ("1,y", False), ('1,"y"', False), ("1\n", False), ("1", True)]
)
def test_only_a_last_row_that_is_short_looks_cut_short(tmp_path: Path, end: str, is_noted: bool) -> None:
    notes = open_text(tmp_path, f"a,b\n1,x\n{end}", allow_short_rows=True).notes
    evidence = "the last row of t.csv has too few cells and no newline"
    assert notes == [Note("t", "", "perhaps truncated", evidence, "compare it with its origin")] * is_noted


def test_notes_show_what_cannot_be_seen() -> None:
    shown = frame_notes([Note("t", "a\nb\u202e", "f", "e", "r").to_json()])
    assert shown.to_dict("records") == [{"column": r"a\nb\u202e", "finding": "f", "evidence": "e", "remedy": "r"}]
    assert list(frame_notes([])) == ["column", "finding", "evidence", "remedy"]


def test_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"a,b\n")
        for _ in range(50):
            stream.write(b"1,2\n" * 250_000)
    with pytest.raises(LabkitError, match="more than 10,000,000 bytes uncompressed"):
        RawTable("t", Table(path="t.csv.gz", max_bytes=10_000_000), [Source(path, "t.csv.gz")])


def test_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of an encrypted member, in both of its headers
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(LabkitError, match=r"t\.zip: .*encrypted.*: unpack it"):
        RawTable("t", Table(path="t.zip"), [Source(path, "t.zip")])


@pytest.mark.parametrize(
    ("values", "message"),
    [(pa.array([2**64 - 1], pa.uint64()), "column 'a' holds uint64 that no plain number or time represents exactly"),
     (pa.array([10**17], pa.timestamp("ms")), "column 'a' holds timestamp[ms] that no plain number or time")],
    ids=["number", "time"],
)  # fmt: skip
def test_value_that_no_plain_type_holds_is_refused(tmp_path: Path, values: pa.Array, message: str) -> None:
    pq.write_table(pa.table({"a": values}), tmp_path / "t.parquet")
    raw = RawTable("t", Table(path="t.parquet"), [Source(tmp_path / "t.parquet", "t.parquet")])
    with pytest.raises(LabkitError) as refused:
        list(raw.read())
    assert message in str(refused.value)


def test_times_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1_234_567_891], pa.timestamp("ns"))}), tmp_path / "t.parquet")
    raw = RawTable("t", Table(path="t.parquet"), [Source(tmp_path / "t.parquet", "t.parquet")])
    assert pa.concat_tables(raw.read())["a"].cast(pa.int64()).to_pylist() == [1_234_567]


def test_files_of_one_table_have_one_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "b.parquet")
    sources = [Source(tmp_path / name, name) for name in ("a.csv", "b.parquet")]
    with pytest.raises(LabkitError, match=r"a\.csv: all files of a table must have the same format"):
        RawTable("t", Table(paths=("a.csv", "b.parquet")), sources)


def test_parquet_of_many_types_is_read_in_plain_ones(tmp_path: Path) -> None:
    table = pa.table(
        {
            "small": pa.array([1, 2], pa.int8()),
            "word": pa.array(["a", None]).dictionary_encode(),
            "day": pa.array([0, None], pa.date32()),
            "price": pa.array([None, None], pa.null()),
            "a.b": pa.array([1.5, 2.5], pa.float32()),
            "left out": pa.array([[1], [2]]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    raw = RawTable("t", Table(path="t.parquet", skip=("left out",)), [Source(tmp_path / "t.parquet", "t.parquet")])
    frame = pa.concat_tables(raw.read()).to_pandas()
    assert {str(name): str(dtype) for name, dtype in frame.dtypes.items()} == {
        "small": "int64", "word": "str", "day": "datetime64[us]", "price": "float64", "a.b": "float64",
    }  # fmt: skip


def test_files_of_one_table_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    (tmp_path / "b.csv").write_text("a,c\n2,y\n")
    (tmp_path / "c.csv").write_text("a,b\n2.5,y\n")
    sources = {name: Source(tmp_path / f"{name}.csv", f"{name}.csv") for name in "abc"}
    with pytest.raises(
        LabkitError, match=r"b\.csv: column 2 is 'c', in a\.csv 'b': all files of a table must have the same"
    ):
        RawTable("t", Table(paths=("a.csv", "b.csv")), [sources["a"], sources["b"]])
    # The type is that of all files together.
    both = RawTable("t", Table(paths=("a.csv", "c.csv")), [sources["a"], sources["c"]])
    assert pa.concat_tables(both.read()).to_pandas()["a"].tolist() == [1.0, 2.5]


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A file of 30 MB is made an experiment and placed in less memory than its cells take as Python strings."""
    code = f"""
        import os, resource, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from benchmarks.big_csv import measure, write_big
        path = Path({str(tmp_path)!r}) / "big.csv"
        write_big(path, megabytes=30)
        taken = measure(path, Path({str(tmp_path)!r}) / "checkout")
        print(taken.before, taken.peak)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    small, large = (float(word) for word in done.stdout.split()[-2:])
    assert large - small < 150
