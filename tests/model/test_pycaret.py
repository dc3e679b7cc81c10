"""PyCaret as a source of estimators, and life without it."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from labkit.model.release.skops_file import save_model
from labkit.model.training import comparison
from labkit.params.training import MODELS, Training

from tests.model.training.real_tables import CANCER, DIABETES, load

pytestmark = pytest.mark.slow

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pycaret":
            raise ModuleNotFoundError("No module named 'pycaret'", name="pycaret")

sys.meta_path.insert(0, Blocked())
"""
PREDICT = """
import numpy as np
from pathlib import Path
from labkit.model.release.skops_file import load_model
from labkit.stages.source import load_bundled
model = load_model(Path(sys.argv[1]))
print(type(model[-1]).__name__, len(model.predict_proba(load_bundled("t", "breast_cancer"))))
"""
COMPARE = """
from tests.model.training.real_tables import CANCER, load
from labkit.model.training import comparison
from labkit.params.training import Training
features, y_true, _ = load("breast_cancer")
training = Training(models=("dummy", "linear"), metric="roc_auc", folds=2, engine=sys.argv[1])
print(comparison.compare(features, y_true, target=CANCER, training=training, seed=0).best)
"""


def run_without_pycaret(code: str, argument: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK + code, argument]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.fixture
def quiet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_candidates_come_from_pycaret_and_leave_no_trace(quiet_folder: Path) -> None:
    before = warnings.showwarning, logging.getLogger().handlers[:]
    for name, target, metric in (("breast_cancer", CANCER, "roc_auc"), ("diabetes", DIABETES, "r2")):
        features, y_true, _ = load(name)
        models = tuple(model for model in MODELS if model not in ("naive_bayes", "nearest_neighbours"))
        training = Training(models=models, metric=metric, folds=2, engine="pycaret")
        found = comparison.compare(features, y_true, target=target, training=training, seed=3)
        sources = found.frame.set_index("model")["source"]
        assert (found.frame["error"] == "").all(), found.frame["error"].tolist()
        assert set(sources[sources == "sklearn"].index) == {"hist_gradient_boosting", "blend", "dummy"}
        for candidate in found.candidates.values():
            assert not [part for part in type(candidate[-1]).__mro__ if part.__module__.startswith("pycaret")]
        fixed = found.candidates["lightgbm"][-1].get_params()
        assert fixed.items() >= {"n_jobs": 2, "random_state": 3, "verbosity": -1, "deterministic": True}.items()
    assert (warnings.showwarning, logging.getLogger().handlers[:]) == before
    assert list(quiet_folder.iterdir()) == []


def test_model_from_pycaret_loads_and_predicts_without_it(tmp_path: Path) -> None:
    features, y_true, row_features = load("breast_cancer")
    training = Training(models=("lightgbm",), metric="roc_auc", folds=2, engine="pycaret")
    found = comparison.compare(features, y_true, target=CANCER, training=training, seed=0)
    assert found.frame["source"].tolist() == ["pycaret"]
    model = comparison.fit_model(
        found.candidates["lightgbm"], row_features, [(features, y_true)], target=CANCER, seed=0
    )
    save_model(tmp_path / "model.skops", model)
    done = run_without_pycaret(PREDICT, str(tmp_path / "model.skops"))
    assert done.stdout == "LGBMClassifier 569\n", done.stderr


def test_engine_sklearn_works_without_pycaret() -> None:
    done = run_without_pycaret(COMPARE, "sklearn")
    assert done.stdout == "linear\n", done.stderr


def test_engine_pycaret_without_pycaret_explains_what_to_do() -> None:
    done = run_without_pycaret(COMPARE, "pycaret")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == (
        "labkit.errors.ParamsError: training.engine: pycaret cannot be imported (No module named 'pycaret'): "
        "install it with `pip install 'labkit[pycaret]'`, or set training.engine: sklearn"
    )
