"""A release as an ONNX graph: its example runs with numpy and onnxruntime, and with nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from labkit.errors import ModelError
from labkit.model.release import bundle
from labkit.model.release.own_code import find_code
from labkit.packages.onnx_graph import write_graph
from labkit.params.experiment import Params
from labkit.params.load import load_params

from tests.model.tables import BLOCKED, make_new_rows
from tests.serving.running import make_rows, write_release

ALONE = f"""
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*BLOCKED, "skops", "msgspec")!r}:
            raise ImportError(f"{{name}} is not there")

sys.meta_path.insert(0, Blocked())
script = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(script)
import labkit
assert labkit.__file__.startswith(script.removesuffix("predict.py")), labkit.__file__
"""


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_example_predicts_what_the_model_predicts(task: str, tmp_path: Path) -> None:
    opened = bundle.load_release(write_release(tmp_path / "release", task))
    place, rows = write_graph(opened, tmp_path), make_new_rows().drop(index=[40, 41])
    (tmp_path / "rows.json").write_text(json.dumps({"rows": make_rows(rows)}))
    for path, n_rows in (("rows.json", len(rows)), ("shop-onnx/example.json", 5)):
        command = [sys.executable, "-B", "-c", ALONE, str(place / "predict.py"), path]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = np.array(json.loads(done.stdout))
        assert len(found) == n_rows
        if path == "rows.json":
            expected = opened.pipeline.predict(rows) if task == "regression" else opened.pipeline.predict_proba(rows)
            np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
    lines = (place / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in lines] == ["numpy", "onnxruntime"]
    assert not list(place.rglob("__pycache__"))


def test_features_of_own_code_are_left_to_the_other_forms(tmp_path: Path) -> None:
    params = load_params("diabetes").model_dump(mode="json")
    scaled = {"path": "sklearn.preprocessing:StandardScaler", "columns": ["age"], "names": ["scaled_age"]}
    params["features"]["transformers"] = {"scaled": scaled}
    code = find_code(Params.model_validate_json(json.dumps(params)))
    opened = bundle.load_release(write_release(tmp_path / "release", code=code))
    with pytest.raises(ModelError, match="features of your own code: choose --form wheel or --form service"):
        write_graph(opened, tmp_path)
