"""Rows to monitor: whatever a log or a file holds is counted or reported."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import MANIFEST, compute_release_digest
from labkit.monitoring.current_rows import Current
from labkit.monitoring.row_batches import Batch, Coded

ROWS = pd.DataFrame({"a": np.arange(40.0), "kind": ["x", "y"] * 20})
ODD = [5, [1], {}, True, None, "yesterday"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("release")
    (folder / MANIFEST).write_text("{}")
    return Release(folder, {"classes": []}, RowFeatures().fit(ROWS), None)


def make_line(release: Release, **changed: Any) -> dict[str, Any]:
    digest = compute_release_digest(release.folder)
    line = {"time": "2026-01-01T00:00:00+00:00", "digest": digest, "inputs": {"a": 1.0, "kind": "x"}, "prediction": 2.0}
    return {**line, **changed}


def read_lines(folder: Path, release: Release, lines: list[Mapping[str, Any]]) -> tuple[Current, Batch]:
    (folder / "1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    current = Current("log", True, release, path=folder)
    [batch] = current.read()
    return current, batch


@pytest.mark.parametrize("time", ODD)
def test_log_line_whose_time_cannot_be_read_has_none(tmp_path: Path, release: Release, time: Any) -> None:
    for others in ([], [make_line(release)]):
        current, batch = read_lines(tmp_path, release, [make_line(release, time=time), *others])
        assert batch.times is not None
        assert np.isnat(batch.times).tolist() == [True, *(False for _ in others)]
        assert current.faults == []


@pytest.mark.parametrize("prediction", [[1], {"x": 1}, None])
def test_logged_class_that_is_no_label_is_missing(tmp_path: Path, release: Release, prediction: Any) -> None:
    several = replace(release, facts={"classes": ["x", "y", "z"], "positive": None})
    lines = [make_line(several, prediction=prediction), make_line(several, prediction="y")]
    _, batch = read_lines(tmp_path, several, lines)
    assert isinstance(batch.predictions, Coded)
    assert (batch.predictions.codes.tolist(), batch.predictions.values) == ([-1, 0], ["y"])


def test_only_the_values_of_the_wrong_kind_are_missing(tmp_path: Path, release: Release) -> None:
    given = ["high", 2.0, [3], 4.0, 10**400, "high"]
    current, batch = read_lines(tmp_path, release, [make_line(release, inputs={"a": a, "kind": "x"}) for a in given])
    np.testing.assert_array_equal(batch.columns["a"], [np.nan, 2, np.nan, 4, np.nan, np.nan])
    assert current.faults == ["column 'a': 'high' is not a number: give numbers (4 rows)"]


def test_rows_of_another_release_that_do_not_fit_are_left_out(tmp_path: Path, release: Release) -> None:
    lines = [
        make_line(release, digest="other", inputs={"a": 1.0}),
        make_line(release, digest="other", inputs={"a": "high", "kind": "x"}),
        make_line(release, digest="other", inputs={"a": 3.0, "kind": "y"}),
        make_line(release, inputs={"a": 4.0}),
    ]
    current, batch = read_lines(tmp_path, release, lines)
    np.testing.assert_array_equal(batch.columns["a"], [3, 4])
    assert (batch.n_rows, current.faults) == (2, [])
    assert current.notes == ["2 rows of another release, with other columns, left out"]
    np.testing.assert_array_equal(batch.predictions, [np.nan, 2])


def test_whole_numbers_beyond_those_of_float64_are_rounded(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "rows.parquet"
    ROWS.assign(a=2**60 + 1).to_parquet(path)
    [batch] = Current("rows.parquet", False, release, path=path).read()
    assert np.unique(batch.columns["a"]).tolist() == [2.0**60]


def test_damaged_file_is_a_fault(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"a": np.random.default_rng(0).normal(size=9000), "kind": "x"}).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    current = Current("rows.parquet", False, release, path=path)
    assert list(current.read()) == []
    assert current.faults == ["rows.parquet: damaged: copy it again"]
