"""A model as a wheel: the release and verbatim copies of what predicts, with numpy and onnxruntime only."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.cli import main
from labkit.errors import ModelError
from labkit.model.release import bundle, runtime
from labkit.model.release.own_code import find_code
from labkit.packages.embedded import write_model_wheel
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.paths import PACKAGE_DIR
from labkit.storage.digests import compute_digest

from tests.conftest import ROOT
from tests.model.tables import BLOCKED, make_new_rows, make_table
from tests.serving.running import make_rows, open_engine, write_release

ALONE = f"""
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*BLOCKED, "skops", "msgspec")!r}:
            raise ImportError(f"{{name}} is not there")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
import labkit.errors as installed
import shop_model
assert sys.modules["labkit.errors"] is installed and shop_model.Error is not installed.LabkitError
refusals = []
for rows in ([{{"a b": 1.0}}], [{{**json.loads(sys.argv[2]), "a_b": "tall"}}]):
    try:
        shop_model.predict(rows)
    except shop_model.Error as error:
        refusals.append(str(error))
print(json.dumps({{**shop_model.predict(json.loads(sys.stdin.read())), "refusals": refusals}}))
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("r") / "release")


@pytest.fixture(scope="module")
def wheel(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_wheel(release, tmp_path_factory.mktemp("dist"))


def test_wheel_predicts_what_the_service_predicts(release: Path, wheel: Path, tmp_path: Path) -> None:
    rows = pd.concat([make_table(), make_new_rows().drop(index=[40, 41])])
    given = make_rows(rows)
    place = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(tmp_path / "cache")
    shutil.copytree(tmp_path / "cache", place, copy_function=os.link)  # as uv installs from its cache
    command = [sys.executable, "-c", ALONE, str(place), json.dumps(given[0])]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    engine = open_engine(tmp_path / "again")
    expected = engine.name_predictions(engine.opened.predict(given))
    assert found["predictions"] == expected["predictions"]
    assert (found["probabilities"], found["threshold"]) == (expected["probabilities"], 0.3)
    pipeline = bundle.load_release(release).pipeline.predict_proba(rows)[:, 1]
    np.testing.assert_allclose([row["yes"] for row in found["probabilities"]], pipeline, atol=1e-5)
    assert found["refusals"][0].startswith("row 1: columns missing: ")
    assert found["refusals"][1] == "column 'a_b': 'tall' is not a number: give numbers"


def test_what_predicts_is_copied_verbatim(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    copies = tmp_path / "shop_model" / "_vendor" / "labkit"
    found = [
        path.relative_to(copies) for path in copies.rglob("*.py") if path.parent != copies or path.stem != "__init__"
    ]
    assert {"features/compiled.py", "features/row_computation.py", "model/onnx/session.py"} <= {*map(str, found)}
    differing = [path for path in found if compute_digest(copies / path) != compute_digest(PACKAGE_DIR / path)]
    assert differing == []
    assert not {"data", "run", "view", "cli"} & {path.parts[0] for path in found}
    needless = {"model/release/own_code.py", "params/section.py", "storage/wheel.py"}
    assert not needless & {*map(str, found)}, "only what makes a release needs them"


def read_requirements(wheel: Path) -> list[str]:
    """Return the names of the packages that a wheel requires."""
    with zipfile.ZipFile(wheel) as archive:
        described = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(described).decode())
    return [one.partition(">")[0] for one in metadata.get_all("Requires-Dist") or []]


def test_wheel_requires_numpy_and_onnxruntime_and_is_the_same_each_time(
    release: Path, wheel: Path, tmp_path: Path
) -> None:
    assert read_requirements(wheel) == ["numpy", "onnxruntime"]
    again = write_model_wheel(release, tmp_path)
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())


def test_wheel_of_a_model_with_own_transformers_requires_what_they_need(tmp_path: Path) -> None:
    params = load_params("diabetes").model_dump(mode="json")
    scaled = {"path": "sklearn.preprocessing:StandardScaler", "columns": ["age"], "names": ["scaled_age"]}
    params["features"]["transformers"] = {"scaled": scaled}
    code = find_code(Params.model_validate_json(json.dumps(params)))
    wheel = write_model_wheel(write_release(tmp_path / "r", code=code), tmp_path)
    assert read_requirements(wheel) == ["numpy", "onnxruntime", "scikit-learn", "skops"]


def test_tampered_wheel_is_refused(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (tmp_path / "shop_model" / "release" / "model.onnx").write_bytes(b"x")
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import shop_model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "model.onnx: changed since it was released: do not use this release" in done.stderr


def test_release_without_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"has no {runtime.GRAPH}"):
        write_model_wheel(write_release(tmp_path / "r", has_graph=False), tmp_path)


def test_command_refuses_the_release_of_another_experiment(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main.main(["package", "diabetes", "--to", str(tmp_path / "dist"), "--release", str(release)])
    assert stopped.value.code == 2
    assert "a release of shop, not of diabetes" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()
