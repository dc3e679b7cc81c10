"""A released model predicts from plain dictionaries, in a process that has neither pandas nor scikit-learn."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError, ModelError
from labkit.model.onnx import converters
from labkit.model.release import bundle
from labkit.model.release.runtime import load_runtime

from tests.model.tables import BLOCKED, TASKS, make_model, make_new_rows, make_table

ALONE = f"""
import importlib, json, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is not there")

sys.meta_path.insert(0, Blocked())
import labkit.features
from labkit.model.release.runtime import load_runtime
for module in pkgutil.iter_modules(labkit.features.__path__):
    if module.name != "row_features":
        importlib.import_module(f"labkit.features.{{module.name}}")
from pathlib import Path
runtime = load_runtime(Path(sys.argv[1]))
print(json.dumps(runtime.predict(json.loads(sys.stdin.read())).tolist()))
"""


def write(folder: Path, task: str, *, has_graph: bool = True) -> Path:
    """Write a release of a small model."""
    model = make_model("lightgbm", task)
    graph = converters.convert(model) if has_graph else None
    facts = {"task": "regression" if task == "regression" else "classification", "experiment": "t"}
    bundle.write_release(folder, model, graph=graph, facts=facts, contract="{}", card="", example=make_table())
    return folder


def make_dictionaries(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return rows as a request holds them."""
    return list(json.loads(frame.to_json(orient="records", date_format="iso")))


@pytest.mark.parametrize("task", TASKS)
def test_release_predicts_plain_rows_without_pandas(tmp_path: Path, task: str) -> None:
    folder, frame = write(tmp_path / "r", task), make_new_rows()
    rows = make_dictionaries(frame)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, folder], input=json.dumps(rows), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    alone = np.array(json.loads(done.stdout))
    np.testing.assert_array_equal(alone, load_runtime(folder).predict(rows))
    np.testing.assert_allclose(alone, bundle.load_release(folder).predict(frame), rtol=1e-6, atol=1e-7)


def test_the_guard_sees_an_import_of_pandas(tmp_path: Path) -> None:
    code = ALONE.replace("import labkit.features\n", "import labkit.features.row_features\n")
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: pandas is not there" in done.stderr


def test_a_row_without_a_column_is_named(tmp_path: Path) -> None:
    runtime = load_runtime(write(tmp_path / "r", "binary"))
    rows = make_dictionaries(make_new_rows().head(3))
    del rows[1]["a b"]
    with pytest.raises(DataError, match="row 2: columns missing: a b"):
        runtime.predict(rows)
    rows[1]["a b"] = "ten"
    with pytest.raises(DataError, match="column 'a b': 'ten' is not a number"):
        runtime.predict(rows)


def test_release_without_a_graph_needs_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no model.onnx: open it with labkit.model.release.bundle.load_release"):
        load_runtime(write(tmp_path / "r", "binary", has_graph=False))
