"""Releases: written the same, opened only when whole."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError, ModelError
from labkit.features.row_features import RowFeatures
from labkit.model.onnx import converters
from labkit.model.release import bundle
from labkit.model.release.main_table_files import MAIN_TABLE, MAIN_TABLE_ROWS
from labkit.model.release.runtime import BACKGROUND, LOSSES, PERFORMANCE, PROFILE, PROFILE_ARRAYS
from labkit.model.training import comparison

from tests.model.tables import TASKS, make_model, make_new_rows, make_table, make_target

ROWS = make_new_rows().drop(index=[40, 41])


def write(folder: Path, task: str = "binary", *, has_graph: bool = True) -> str:
    """Write a release of a small model."""
    model = make_model("lightgbm", task)
    facts = {"task": "regression" if task == "regression" else "classification", "experiment": "t"}
    return bundle.write_release(
        folder,
        model,
        graph=converters.convert(model) if has_graph else None,
        facts=facts,
        contract="{}",
        card="# Card ü\n",
        example=make_table(),
    )


@pytest.mark.parametrize("has_graph", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_release_predicts_as_the_pipeline(tmp_path: Path, task: str, has_graph: bool) -> None:
    digest = write(tmp_path / "r", task, has_graph=has_graph)
    opened = bundle.load_release(tmp_path / "r", digest=digest)
    assert (opened.graph is not None) == has_graph
    model = make_model("lightgbm", task)
    expected = model.predict(ROWS) if task == "regression" else model.predict_proba(ROWS)
    np.testing.assert_allclose(opened.predict(ROWS), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(opened.pipeline.predict(ROWS), model.predict(ROWS))
    with pytest.raises(DataError, match="columns missing: a b"):
        opened.predict(ROWS.drop(columns="a b"))


def test_same_release_twice_is_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a") == write(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    without = {
        bundle.STATE,
        bundle.EVALUATED,
        PROFILE,
        PROFILE_ARRAYS,
        PERFORMANCE,
        LOSSES,
        BACKGROUND,
        MAIN_TABLE,
        MAIN_TABLE_ROWS,
    }
    assert names == sorted({*bundle.FILES} - without), "no arrays without histories, and what is added later"
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    pins = (tmp_path / "a" / "requirements.txt").read_text().splitlines()
    assert [pin.split("==")[0] for pin in pins] == list(bundle.REQUIRED)
    example = json.loads((tmp_path / "a" / "input_example.json").read_text())
    assert example["columns"] == list(make_table())
    assert len(example["data"]) == 5


def test_histories_are_released_with_their_outcomes(tmp_path: Path) -> None:
    times = pd.Series(pd.date_range("2024-01-01", periods=200, freq="h", tz="UTC"))
    frame = make_table().assign(predict_at=times, outcome_known_at=times + pd.Timedelta(minutes=30))
    frame["outcome"] = (frame["a b"].fillna(0) > 0).astype(int)
    spec = {"place": {"keys": ["größe"], "days": [2]}}
    row_features = RowFeatures(histories=spec, target={"column": "outcome", "positive": 1})
    row_features.fit(frame, frame["outcome"])
    parts = [(row_features.transform(frame), frame["outcome"])]
    model = comparison.fit_model("lightgbm", row_features, parts, target=make_target("binary"), seed=0)
    facts = {"task": "classification", "experiment": "t"}
    options = {"facts": facts, "contract": "{}", "card": "", "example": frame[list(row_features.inputs_)]}
    digests = [
        bundle.write_release(tmp_path / name, model, graph=converters.convert(model), **options)  # type: ignore[arg-type]
        for name in "ab"
    ]
    assert digests[0] == digests[1]
    opened = bundle.load_release(tmp_path / "a", digest=digests[0])
    np.testing.assert_allclose(opened.predict(frame), model.predict_proba(frame), atol=1e-6)
    assert opened.row_features.transform(frame)["place_count_2d"].max() > 1
    with (tmp_path / "a" / bundle.STATE).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ModelError, match=r"row_features\.npz: changed since it was released"):
        bundle.load_release(tmp_path / "a")


def test_release_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    write(tmp_path)
    digest = write(tmp_path, "regression", has_graph=False)
    assert bundle.load_release(tmp_path, digest=digest).graph is None
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"notes\.txt is not part of a release: remove it"):
        write(tmp_path)


def link(folder: Path, name: str) -> None:
    """Put a symbolic link to a whole copy in a file's place."""
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)


def change_manifest(folder: Path, **entries: object) -> None:
    """Change entries of the manifest, leaving all files as they are."""
    path = folder / bundle.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


FAULTS = {
    "changed": (lambda f: (f / "model.onnx").write_bytes(b"x"), "model.onnx: changed since it was released"),
    "pipeline": (lambda f: (f / "model.skops").open("ab").write(b"x"), "model.skops: changed since it was released"),
    "extra": (lambda f: (f / "evil.py").touch(), "evil.py is not in the manifest"),
    "folder": (lambda f: (f / "evil").mkdir(), "evil is not in the manifest"),
    "missing": (lambda f: (f / "contract.json").unlink(), "contract.json: missing, or a link"),
    "symlink": (lambda f: link(f, "model.onnx"), "model.onnx: missing, or a link"),
    "hard link": (lambda f: os.link(f / "model.onnx", f.parent / "x"), "model.onnx: missing, or a link"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest.json: not a release"),
    "linked manifest": (lambda f: link(f, "manifest.json"), "no manifest.json: not a release"),
    "hard manifest": (lambda f: os.link(f / "manifest.json", f.parent / "x"), "no manifest.json: not a release"),
    "other manifest": (lambda f: change_manifest(f, more={"sha256": ""}), "the manifest is not the one that was pub"),
}
FAULTS_WITHOUT_DIGEST = {
    "not JSON": (lambda f: (f / "manifest.json").write_text("{"), "manifest.json: not a manifest"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json: not a manifest"),
    "no digest": (lambda f: change_manifest(f, **{"model.onnx": {}}), "manifest.json: not a manifest"),
    "empty": (lambda f: (f / "manifest.json").write_text("{}"), "does not list model.skops"),
    "way out": (lambda f: change_manifest(f, **{"../x": {"sha256": "0"}}), "missing, or a link"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, *FAULTS_WITHOUT_DIGEST])
def test_release_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    folder = tmp_path / "r"
    digest: str | None = write(folder)
    (tmp_path / "x").touch()
    if "hard" in fault:
        (tmp_path / "x").unlink()
    spoil, message = {**FAULTS, **FAULTS_WITHOUT_DIGEST}[fault]
    spoil(folder)
    if fault in FAULTS_WITHOUT_DIGEST:
        digest = None
    for opener in ("labkit.model.onnx.graph.Graph", "labkit.features.row_features.RowFeatures.from_json"):
        monkeypatch.setattr(opener, lambda *_: pytest.fail("opened before it was checked"))
    with pytest.raises(ModelError) as refused:
        bundle.load_release(folder, digest=digest)
    assert message in str(refused.value)
