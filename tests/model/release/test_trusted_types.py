"""Models with types that the params trust: XGBoost, CatBoost and classes of the user's own, saved, released, opened."""

import io
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catboost import CatBoostClassifier, CatBoostRegressor
from labkit.errors import MissingCodeError, ModelError
from labkit.features.row_features import RowFeatures
from labkit.model.onnx.graph import make_graph
from labkit.model.release import bundle, own_code, release_code, runtime, skops_file
from labkit.model.training.comparison import fit_model
from labkit.model.training.own_candidates import make_own
from labkit.params.import_path import resolve_callable
from labkit.params.own_candidates import Candidate
from labkit.params.training import Training
from labkit.params.trusted_types import list_trusted_types
from sklearn.linear_model import Ridge
from skops.io._protocol import PROTOCOL
from xgboost import XGBClassifier, XGBRegressor

from tests.model.training.real_tables import CANCER, DIABETES, load
from tests.own_library import open_library

SILENT: dict[str, Any] = {"iterations": 9, "verbose": 0, "allow_writing_files": False}
XGBOOST = ["xgboost.core:Booster", "xgboost.sklearn:XGBClassifier", "xgboost.sklearn:XGBRegressor"]
CATBOOST = ["catboost.core:CatBoostClassifier", "catboost.core:CatBoostRegressor"]
STACK = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

class Stack(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_) + np.asarray(X)[:, 0]
"""


def fit(estimator: Any, preparation: Any, trusted: list[str]) -> tuple[Any, Any, Any]:
    """Return a model of a small real table, its rows and its true values."""
    is_classes = hasattr(estimator, "predict_proba")
    features, y_true, _ = load("breast_cancer" if is_classes else "diabetes")
    target = CANCER if is_classes else DIABETES
    training = Training(metric="log_loss" if is_classes else "mae", trusted_types=tuple(trusted))
    own = Candidate(estimator, preparation)
    made = make_own("own", own, features, y_true, target=target, training=training, seed=1)
    model = fit_model(made, RowFeatures().fit(features), [(features, y_true)], target=target, seed=1)
    return model, features, y_true


def write(folder: Path, model: Any, rows: Any, code: own_code.OwnCode, graph: bytes | None) -> bundle.Release:
    """Write a release and open it."""
    facts = {"task": "classification" if hasattr(model, "predict_proba") else "regression", "experiment": "t"}
    bundle.write_release(folder, model, graph=graph, facts=facts, contract="{}", card="", example=rows, code=code)
    return bundle.load_release(folder)


@pytest.mark.parametrize(
    ("estimator", "preparation", "trusted", "package"),
    [
        (XGBRegressor(n_estimators=9), "labkit", XGBOOST, "xgboost"),
        (XGBClassifier(n_estimators=9), "own", XGBOOST, "xgboost"),
        (CatBoostRegressor(**SILENT), "own", CATBOOST, "catboost"),
        (CatBoostClassifier(**SILENT), "labkit", CATBOOST, "catboost"),
    ],
)
def test_boosters_are_released_with_a_graph_that_predicts_alike(
    tmp_path: Path, estimator: Any, preparation: str, trusted: list[str], package: str
) -> None:
    model, rows, _ = fit(estimator, preparation, trusted)
    graph, parity = make_graph(model, rows, tolerance=1e-5)
    assert graph, parity.reason
    types = list_trusted_types(trusted)
    opened = write(tmp_path / "r", model, rows, own_code.OwnCode({}, types), graph)
    assert opened.facts["own_code"] == {"packages": {}, "trusted_types": types, "needs": []}
    expected = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
    np.testing.assert_allclose(opened.predict(rows), expected, atol=1e-4, rtol=1e-5)
    assert np.array_equal(opened.pipeline.predict(rows), model.predict(rows))
    assert re.search(rf"^{package}(-cpu)?==\d", (tmp_path / "r" / "requirements.txt").read_text(), re.MULTILINE)


def test_a_class_of_the_users_own_is_released_without_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_library(tmp_path, monkeypatch, "stackshop") as folder:
        (folder / "models.py").write_text(STACK)
        named = ["stackshop.models:Stack"]
        stack = resolve_callable(named[0], where="test")()
        with pytest.raises(ModelError, match=r'add "stackshop\.models:Stack" to training\.trusted_types'):
            fit(stack, "labkit", [])
        model, rows, _ = fit(stack, "labkit", named)
        graph, parity = make_graph(model, rows, tolerance=1e-5)
        assert graph is None
        assert "Stack does not convert" in parity.reason
        expected = model.predict(rows)
        code = own_code.OwnCode(own_code.find_own_packages(named), list_trusted_types(named))
        write(tmp_path / "r", model, rows, code, None)
        (folder / "models.py").write_text("raise SystemExit('another version')\n")
        release_code.remove_modules(["stackshop"])
        opened = bundle.load_release(tmp_path / "r")
        assert opened.facts["own_code"]["trusted_types"] == ["stackshop.models.Stack"]
        np.testing.assert_array_equal(opened.predict(rows), expected)
        with pytest.raises(ModelError, match=r"has no model\.onnx"):
            runtime.load_runtime(tmp_path / "r")
        facts = tmp_path / "r" / "release.json"
        facts.write_text(facts.read_text().replace("stackshop.models.Stack", "stackshop.models.Other"))
        with pytest.raises(ModelError, match=r"release\.json: changed since it was released"):
            bundle.load_release(tmp_path / "r")


def test_a_file_with_other_types_is_refused_and_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_library(tmp_path, monkeypatch, "stackshop") as folder:
        (folder / "models.py").write_text(STACK)
        named = ["stackshop.models:Stack"]
        model, _, _ = fit(resolve_callable(named[0], where="test")(), "labkit", named)
        path = tmp_path / "m.skops"
        skops_file.save_model(path, model, own=list_trusted_types(named))
        marker = tmp_path / "marker"
        (folder / "models.py").write_text(f"open({str(marker)!r}, 'w').close()\n{STACK}")
        release_code.remove_modules(["stackshop"])
        with pytest.raises(ModelError, match=r"not trusted: stackshop\.models\.Stack: do not use the file"):
            skops_file.load_model(path)
        assert not marker.exists()
        assert skops_file.load_model(path, own=list_trusted_types(named))
        assert marker.exists()


def test_python_is_never_trusted_even_if_a_release_says_so(tmp_path: Path) -> None:
    kinds = ["posix.mkdir", "catboost.core.CatBoost"]
    with pytest.raises(ModelError, match=r"not trusted: posix\.mkdir: do not use the file"):
        skops_file.check_types(kinds, "m.skops", kinds)


def craft(function: str, argument: str) -> bytes:
    """Return a model file that calls a function with a string and an empty dictionary."""
    module, _, name = function.rpartition(".")
    values = [
        {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": one, "is_json": True}
        for one in (json.dumps(argument), "{}")
    ]
    given = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": values}
    called = {"__class__": name, "__module__": module, "__loader__": "ConstructorFromReduceNode", "content": given}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps({**called, "protocol": PROTOCOL, "_skops_version": "0"}))
    return file.getvalue()


def rewrite(folder: Path, own: Any, **files: bytes) -> None:
    """Replace what a release says of the user's own code, and model files, as if the release had been made so."""
    for name, content in files.items():
        (folder / f"{name}.skops").write_bytes(content)
    facts = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps({**facts, "own_code": own}))
    (folder / "manifest.json").unlink()
    bundle.write_manifest(folder)


def test_a_release_runs_nothing_of_installed_libraries_that_it_names_itself(tmp_path: Path) -> None:
    model, rows, _ = fit(Ridge(), "labkit", [])
    write(tmp_path / "r", model, rows, own_code.OwnCode(), None)
    marker, function = tmp_path / "marker", "numpy.testing._private.utils.runstring"
    rewrite(tmp_path / "r", {"trusted_types": [function]}, model=craft(function, f"open({str(marker)!r}, 'w')"))
    with pytest.raises(ModelError, match=r"not trusted: numpy\.testing\._private\.utils\.runstring: do not use"):
        bundle.load_release(tmp_path / "r").predict(rows)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("kind", "is_accepted"),
    [
        ("numpy.memmap", False),
        ("pandas.io.pytables.HDFStore", False),
        ("labkit.storage.atomic.write_bytes", False),
        ("xgboost.core.DMatrix", False),
        ("xgboost.core.Booster", True),
        ("xgboost.sklearn.XGBRanker", True),
        ("catboost.core.CatBoostClassifier", True),
        ("stackshop.models.log_all", True),
    ],
)
def test_of_what_a_release_names_only_estimators_and_its_own_packages_are_accepted(
    kind: str, is_accepted: bool
) -> None:
    if is_accepted:
        skops_file.check_types([kind], "m.skops", [kind], ["stackshop"])
    else:
        with pytest.raises(ModelError, match=f"not trusted: {re.escape(kind)}: do not use the file"):
            skops_file.check_types([kind], "m.skops", [kind], ["stackshop"])


@pytest.mark.parametrize(
    "own", [None, [], "x", {"trusted_types": None}, {"trusted_types": [1]}, {"needs": "numpy"}, {"packages": 1}]
)
def test_malformed_facts_of_own_code_are_refused(tmp_path: Path, own: Any) -> None:
    model, rows, _ = fit(Ridge(), "labkit", [])
    write(tmp_path / "r", model, rows, own_code.OwnCode(), None)
    rewrite(tmp_path / "r", own)
    with pytest.raises(ModelError, match=r"release\.json: not written by labkit, or damaged: do not use this release"):
        bundle.load_release(tmp_path / "r")


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = fit(XGBRegressor(n_estimators=2), "labkit", XGBOOST)
    types = list_trusted_types(XGBOOST)
    skops_file.save_model(tmp_path / "m.skops", model, own=types)
    monkeypatch.setitem(sys.modules, "xgboost.sklearn", None)
    monkeypatch.setitem(sys.modules, "xgboost.core", None)
    with pytest.raises(
        MissingCodeError, match=r"m\.skops: the model needs xgboost, which is not installed: install it"
    ):
        skops_file.load_model(tmp_path / "m.skops", own=types)
