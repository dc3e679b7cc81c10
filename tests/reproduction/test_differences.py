"""What differs between two outputs is described by how much."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.reproduction.differences import compare_frames, compare_text, compare_trees, list_file_differences


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, "the same content, written differently"),
        ({"a": [1, 2]}, {"a": [1, 4]}, "1 value differs: a.1 2, now 4 (100 %)"),
        ({"a": 0, "b": "x"}, {"a": 1, "b": "y"}, '2 values differ: a 0, now 1; b "x", now "y"'),
        ({"a": 1}, {}, "1 value differs: a 1, now null"),
    ],
)
def test_documents(before: object, after: object, expected: str) -> None:
    assert compare_trees(before, after) == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"x": [1.0, np.nan], "y": ["a", None]}, "the same values, written differently"),
        ({"x": [1.5, np.nan], "y": ["a", "b"]}, "x: 1 of 2 rows, by at most 0.5; y: 1 of 2 rows"),
        ({"x": [1.0, 2.0], "y": ["a", None]}, "x: 1 of 2 rows"),
        ({"x": [1.0], "y": ["a"]}, "2 rows, now 1"),
        ({"x": [1.0, np.nan], "z": ["a", None]}, "other columns: y; z"),
        ({"x": [1, 2], "y": ["a", None]}, "x: float64, now int64"),
    ],
)
def test_tables(after: dict[str, list[object]], expected: str) -> None:
    assert compare_frames(pd.DataFrame({"x": [1.0, np.nan], "y": ["a", None]}), pd.DataFrame(after)) == expected


def test_texts() -> None:
    assert compare_text("a\nb\n", "a\nb\nc\n") == "2 lines, now 3"


def test_files_of_an_output(tmp_path: Path) -> None:
    for side, value in (("before", 1.0), ("after", 1.1)):
        folder = tmp_path / side / "out"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"rmse": value}))
        (folder / "model.bin").write_bytes(bytes(int(value * 10)))
        (folder / "broken.json").write_text(side)
        (folder / f"{side}.txt").write_text("")
    sides = [
        {path.relative_to(tmp_path / side).as_posix(): path for path in (tmp_path / side).rglob("*") if path.is_file()}
        for side in ("before", "after")
    ]
    assert list(list_file_differences(sides[0], sides[1], "out")) == [
        "after.txt: is new",
        "before.txt: was not written again",
        "broken.json: 6 bytes, now 5 bytes",
        "metrics.json: 1 value differs: rmse 1.0, now 1.1 (10 %)",
        "model.bin: 10 bytes, now 11 bytes",
    ]
