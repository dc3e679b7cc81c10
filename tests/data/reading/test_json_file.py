"""JSON: every usual layout gives the same table, and a file of any size is read piece by piece."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from labkit.data.reading import json_file
from labkit.data.reading.raw_table import RawTable, Source
from labkit.errors import LabkitError
from labkit.params.tables import Table

RECORDS = [{"x": 1.50, "y": "a", "z": True}, {"x": None, "y": "b", "z": False}, {"x": 3, "y": "c"}]
LAYOUTS = {
    "array": json.dumps(RECORDS),
    "array over many lines": json.dumps(RECORDS, indent=4),
    "lines": "\n".join(map(json.dumps, RECORDS)),
    "lines with blank ones": "\n\n".join(map(json.dumps, RECORDS)) + "\n\n",
    "not a number": json.dumps(RECORDS).replace("null", "NaN"),
    "rows below names": json.dumps([["x", "y", "z"], [1.5, "a", True], [None, "b", False], [3, "c", None]]),
    "split": json.dumps({"columns": ["x", "y", "z"], "index": [0, 1, 2], "data": [[1.5, "a", True], [None, "b", False],
                                                                                 [3, "c", None]]}),
    "columns": json.dumps({"x": [1.5, None, 3], "y": ["a", "b", "c"], "z": [True, False, None]}),
    "columns by row": json.dumps({"x": {"0": 1.5, "2": 3}, "y": {"0": "a", "1": "b", "2": "c"}, "z": {"0": True, "1": False}}),
    "under a name": json.dumps({"status": "ok", "results": RECORDS, "next": None}),
    "with a mark": "\ufeff" + json.dumps(RECORDS),
}  # fmt: skip


def open_json(folder: Path, content: str, **fields: Any) -> RawTable:
    (folder / "t.json").write_text(content, encoding="utf-8")
    return RawTable("t", Table(path="t.json", **fields), [Source(folder / "t.json", "t.json")])


def read(folder: Path, content: str, **fields: Any) -> dict[str, list[Any]]:
    return pa.concat_tables(open_json(folder, content, **fields).read()).to_pydict()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_layouts_give_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, piece: int) -> None:
    monkeypatch.setattr(json_file, "PIECE", piece)
    found = read(tmp_path, LAYOUTS[layout])
    assert sorted(found["x"], key=lambda value: value or 2) == [1.5, None, 3.0]
    assert sorted(found["y"]) == ["a", "b", "c"]
    assert found["z"][found["y"].index("b")] is False


def test_digits_and_escapes_are_kept(tmp_path: Path) -> None:
    content = (
        r'[{"id": 9007199254740993, "name": "a\u00e9\n\"b\"", "code": "007"}, {"id": 2, "name": "NA", "code": "1"}]'
    )
    assert read(tmp_path, content, texts=("code",)) == {
        "id": [9007199254740993, 2], "name": ['aé\n"b"', None], "code": ["007", "1"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": 1}\n{"x": 2}\n{"x": 3, "y', 't.json: line 3 (\'{"x": 3, "y\' …): truncated'),
        ('{"x": 1}\n{"x": \n{"x": 3}\n{"x": 4}\n', "t.json: line 2: invalid JSON at"),
        ('[{"x": 1},\n{"x" 2},\n{"x": 3}]', "t.json: line 2: invalid JSON at '{\"x\" 2'"),
        ('[{"x": 1}, {"x": 2},', "t.json: line 1: truncated"),
        ("[" * 100_000, "t.json: nested too deep"),
        ('[{"x": Infinity, "y": 1}]', "'Infinity' is not a finite number"),
        ('[{"x": 1, "": 2}]', "columns without a name: 2"),
        ("[[1, 2], [3]]", "record 1 is an array"),
    ],
)
@pytest.mark.parametrize("piece", [3, 1 << 20])
def test_what_is_no_table_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, content: str, message: str
) -> None:
    monkeypatch.setattr(json_file, "PIECE", piece)
    with pytest.raises(LabkitError) as refused:
        read(tmp_path, content)
    assert message in str(refused.value)


def test_value_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_file, "LONGEST_RECORD", 1000)
    monkeypatch.setattr(json_file, "PIECE", 100)
    with pytest.raises(LabkitError, match="line 2: a value of more than 1,000 characters"):
        read(tmp_path, '{"x": 1}\n{"x": "' + "a" * 2000)
