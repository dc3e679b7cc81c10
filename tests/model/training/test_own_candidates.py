"""Candidates of the user's own, beside labkit's on a real table: compared, tuned, calibrated, or refused with a reason."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.errors import ParamsError
from labkit.features.row_features import RowFeatures
from labkit.model.onnx.graph import make_graph
from labkit.model.release.skops_file import load_model, save_model
from labkit.model.training.comparison import compare, fit_model
from labkit.model.training.own_candidates import collect_own, make_own
from labkit.model.training.selection import choose
from labkit.model.training.tuning import tune
from labkit.params.own_candidates import Candidate
from labkit.params.training import Training
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.cluster import KMeans
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from tests.conftest import call_in_process
from tests.model.training.real_tables import CANCER, DIABETES, FLOWERS, load
from tests.own_library import open_library
from tests.run.small import make_small

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs" / "own-models.md"
NUMBERS = Training(models=("linear",), metric="mae", folds=2)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the package `churn` in the lib folder of an empty checkout, with the code of the docs."""
    blocks = re.findall(r"```python\n(# lib/churn/models.py\n.*?)```", DOCS.read_text(), re.DOTALL)
    with open_library(tmp_path, monkeypatch, "churn") as folder:
        (folder / "models.py").write_text(blocks[0])
        yield folder


@pytest.mark.slow
def test_stack_of_the_docs_is_compared_tuned_saved_and_converted(library: Path, tmp_path: Path) -> None:
    features, y_true, _ = load("breast_cancer")
    training = Training(
        models=("dummy", "linear", "churn.models:make_stack"), metric="log_loss", folds=2, tuning_trials=3
    )
    how: dict[str, Any] = {"target": CANCER, "training": training, "seed": 7}
    compared = compare(features, y_true, **how)
    board = compared.frame.set_index("model")
    assert board["error"].eq("").all(), board["error"].tolist()
    assert dict(board["source"]) == {"dummy": "sklearn", "linear": "sklearn", "make_stack": "own"}
    assert board["log_loss"]["make_stack"] < board["log_loss"]["dummy"] / 2
    stack = compared.candidates["make_stack"]
    assert stack[-1].get_params()["stack__forest__random_state"] == 7
    alone = replace(compared, frame=compared.frame[compared.frame["model"] == "make_stack"])
    tuned = tune(alone, features, y_true, **how)
    assert tuned.model == "make_stack"
    assert tuned.frame["state"].isin(["complete", "pruned"]).all(), tuned.frame["error"].tolist()
    tried = tuned.frame["stack__final_estimator__C"]
    assert np.isnan(tried[0]), "trial 0 is the candidate as it is"
    assert tried[1:].between(0.01, 100).all()
    rows = RowFeatures().fit(features)
    model = fit_model(stack, rows, [(features, y_true)], target=CANCER, seed=7)
    save_model(tmp_path / "model.skops", model)
    loaded = load_model(tmp_path / "model.skops")
    assert (loaded.predict_proba(features) == model.predict_proba(features)).all()
    graph, parity = make_graph(model, features, tolerance=1e-5)
    assert graph or parity.reason, "either it is equal, or the release says why there is none"


def test_candidates_of_a_notebook_join_with_their_own_preparation() -> None:
    features, y_true, _ = load("diabetes")
    holed = features.assign(bmi=features["bmi"].where(features["bmi"] < 30))
    chosen = make_column_transformer((SimpleImputer(), make_column_selector(dtype_include="number")))
    own = {
        "ridge": Ridge(0.1),
        "few": Candidate(make_pipeline(chosen, StandardScaler(), Ridge()), preparation="own"),
    }
    compared = compare(holed, y_true, target=DIABETES, training=NUMBERS, seed=1, own=own)
    assert compared.frame["error"].eq("").all(), compared.frame["error"].tolist()
    assert set(compared.frame["model"]) == {"linear", "ridge", "few"}
    assert compared.candidates["few"][0] == "passthrough"
    assert choose(compared, tune(compared, holed, y_true, target=DIABETES, training=NUMBERS, seed=1), "mae").model


@pytest.mark.parametrize("is_last_step", [False, True])
def test_xgboost_takes_any_labels_and_is_tuned_by_its_own_parameters(is_last_step: bool) -> None:
    features, y_true, _ = load("iris")
    booster = XGBClassifier(n_estimators=9, max_depth=2)
    estimator = Pipeline([("scale", StandardScaler()), ("trees", booster)]) if is_last_step else booster
    name = "trees__max_depth" if is_last_step else "max_depth"
    own = {"xgb": Candidate(estimator, "own", search=lambda trial: {name: trial.suggest_int("depth", 3, 4)})}
    types = ("xgboost.core:Booster", "xgboost.sklearn:XGBClassifier")
    training = Training(models=("dummy",), metric="log_loss", folds=2, tuning_trials=3, trusted_types=types)
    how: dict[str, Any] = {"target": FLOWERS, "training": training, "seed": 7}
    compared = compare(features, y_true, **how, own=own)
    assert compared.frame["error"].eq("").all(), compared.frame["error"].tolist()
    assert compared.candidates["xgb"][-1].get_params()[name.replace("max_depth", "random_state")] == 7
    tuned = tune(compared, features, y_true, **how)
    assert tuned.frame["state"].isin(["complete", "pruned"]).all(), tuned.frame["error"].tolist()
    assert tuned.frame[name].dropna().isin([3, 4]).all()
    model = fit_model(tuned.candidate, RowFeatures().fit(features), [(features, y_true)], target=FLOWERS, seed=7)
    assert {*model.predict(features)} == {"setosa", "versicolor", "virginica"}
    graph, parity = make_graph(model, features, tolerance=1e-5)
    assert graph, parity.reason


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ([Ridge()], ""),
        ([RandomForestRegressor(5, random_state=1)], ""),
        ([RBFSampler(random_state=1), Ridge()], "RBFSampler does not convert: skl2onnx has no converter for it"),
    ],
)
def test_preparation_of_a_candidate_converts_or_its_transformer_is_named(last: list[Any], reason: str) -> None:
    features, y_true, _ = load("diabetes")
    features["bmi"] = features["bmi"].where(features["bmi"] < 30)
    features["sex"] = np.where(features["sex"] > 1.5, "f", "m")
    numbers = make_column_selector(dtype_include="number")
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((SimpleImputer(), numbers), (words, ["sex"]))
    own = Candidate(make_pipeline(columns, *last), preparation="own")
    made = make_own("own", own, features, y_true, target=DIABETES, training=NUMBERS, seed=1)
    model = fit_model(made, RowFeatures().fit(features), [(features, y_true)], target=DIABETES, seed=1)
    graph, parity = make_graph(model, features, tolerance=1e-5)
    assert (graph is None, parity.reason) == (bool(reason), reason)


class Careless(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor that does what it should not, as told."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def fit(self, X: Any, y: Any) -> "Careless":
        if self.fault == "change":
            X["bmi"] = 0.0
        if self.fault == "fold" and len(X) > 200:
            raise ValueError("too many rows for me")
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        made = {"shape": np.zeros((len(X), 2)), "missing": np.full(len(X), np.nan), "words": np.full(len(X), "a")}
        made |= {"random": np.random.default_rng().random(len(X)), "rows": self.mean_ - np.arange(len(X))}
        made |= {"missing in fold": np.where(len(X) == 221, np.nan, np.full(len(X), self.mean_))}
        return made.get(self.fault, np.full(len(X), self.mean_))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Candidate(Careless("change"), preparation="own"), "it changes the rows that it is given: work on a copy"),
        (Careless("shape"), "its predictions are float64 of shape (300, 2), not numbers of (300,)"),
        (Careless("missing"), "some of its predictions are missing or infinite"),
        (
            Careless("random"),
            "it predicts other values for the same rows without the other rows: it is random, or looks",
        ),
        (Careless("rows"), "it predicts other values for the same rows without the other rows"),
        (Careless("words"), "its predictions are <U1 of shape (300,)"),
        (Careless("fold"), "too many rows for me"),
        (
            Careless(),
            f'it cannot be saved: it holds types that are not trusted: add "{__name__}:Careless" to training.trusted_types',
        ),
        (
            make_pipeline(FunctionTransformer(lambda rows: rows), Ridge()),
            f"it cannot be saved: it holds {__name__}.<lambda>, which cannot be imported: define it with a name at the top",
        ),
        (
            XGBRegressor(n_estimators=5),
            'add "xgboost.core:Booster", "xgboost.sklearn:XGBRegressor" to training.trusted_types if you trust them',
        ),
    ],
)
def test_what_fails_stays_in_the_leaderboard_with_its_reason(candidate: Any, reason: str) -> None:
    features, y_true, _ = load("diabetes")
    compared = compare(features, y_true, target=DIABETES, training=NUMBERS, seed=1, own={"careless": candidate})
    error = compared.frame.set_index("model").loc["careless", "error"]
    assert reason in error
    assert compared.best == "linear"


def test_missing_predictions_in_one_fold_are_not_averaged_away() -> None:
    features, y_true, _ = load("diabetes")
    model, trusted = (
        Careless("missing in fold"),
        NUMBERS.model_copy(update={"trusted_types": (f"{__name__}:Careless",)}),
    )
    how: dict[str, Any] = {"target": DIABETES, "training": trusted, "seed": 1, "own": {"careless": model}}
    # Of 441 rows one fold is evaluated on 220 of them, the other on 221.
    compared = compare(features.iloc[:441], y_true.iloc[:441], **how)
    error = compared.frame.set_index("model").loc["careless", "error"]
    assert error == "ModelError: some of its predictions are missing or infinite, in fold 1 of 2"


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [(DecisionTreeClassifier(), "classifier"), (make_pipeline(StandardScaler(), KMeans()), "clusterer")],
)
def test_what_predicts_no_numbers_is_refused(estimator: Any, kind: str) -> None:
    with pytest.raises(ParamsError, match=f"is a {kind}, but the target is a number: give a regressor"):
        collect_own({"tree": estimator}, NUMBERS, DIABETES, seed=1)


def test_what_fails_is_named_with_the_line_of_ones_own_code_and_the_fold(library: Path) -> None:
    (library / "careless.py").write_text(
        "from sklearn.linear_model import Ridge\n\n\nclass Fussy(Ridge):\n    def fit(self, X, y):\n"
        "        if len(X) == 221:\n            raise ValueError('not these rows')\n        return super().fit(X, y)\n\n\n"
        "def make_fussy():\n    return Fussy()\n\n\ndef make_foreign():\n    return Fussy(2.0)\n"
    )
    features, y_true, _ = load("diabetes")
    # Of 441 rows one fold is fitted to 220 of them, the other to 221.
    trusted = NUMBERS.model_copy(
        update={"models": ("linear", "churn.careless:make_fussy"), "trusted_types": ("churn.careless:Fussy",)}
    )
    compared = compare(features.iloc[:441], y_true.iloc[:441], target=DIABETES, training=trusted, seed=1)
    error = compared.frame.set_index("model").loc["make_fussy", "error"]
    assert error == "ValueError: not these rows, at lib/churn/careless.py:7, in fold 2 of 2"
    untrusted = NUMBERS.model_copy(update={"models": ("linear", "churn.careless:make_foreign")})
    compared = compare(features, y_true, target=DIABETES, training=untrusted, seed=1)
    error = compared.frame.set_index("model").loc["make_foreign", "error"]
    assert error.startswith("ModelError: it cannot be saved: it holds types that are not trusted: ")
    assert error.endswith(" if you trust them, made at lib/churn/careless.py:15")


def test_search_that_fails_is_a_failed_trial() -> None:
    features, y_true, _ = load("diabetes")
    training = NUMBERS.model_copy(update={"tuning_trials": 3})

    def search(trial: Any) -> dict[str, Any]:
        if trial.number == 1:
            return {"alhpa": 1.0}
        return {"alpha": trial.suggest_float("alpha", 0.5, 2.0)}

    own = {"ridge": Candidate(Ridge(1.0), search=search)}
    how: dict[str, Any] = {"target": DIABETES, "training": training, "seed": 1}
    compared = compare(features, y_true, **how, own=own)
    alone = replace(compared, frame=compared.frame[compared.frame["model"] == "ridge"])
    tuned = tune(alone, features, y_true, **how)
    assert tuned.frame["state"].tolist() == ["complete", "failed", "complete"]
    assert "Invalid parameter 'alhpa'" in tuned.frame["error"][1]


class Uncloneable(BaseEstimator):  # type: ignore[misc]
    """An estimator that changes its parameter."""

    def __init__(self, depth: Any = None) -> None:
        self.depth = [depth]

    def fit(self, X: Any, y: Any) -> "Uncloneable":
        return self

    def predict(self, X: Any) -> Any: ...

    def predict_proba(self, X: Any) -> Any: ...


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"svc": LinearSVC()}, "candidates['svc']: LinearSVC has no predict_proba: give a scikit-learn estimator for it"),
        ({"tree": DecisionTreeClassifier}, "candidates['tree']: it is the class DecisionTreeClassifier: give an instance"),
        ({"table": 3}, "candidates['table']: int has no fit; predict; predict_proba"),
        ({"linear": DecisionTreeClassifier()}, "a candidate is named 'linear': use a name of its own"),
        ({"odd": Uncloneable()}, "candidates['odd']: Uncloneable cannot be cloned: "),
        ({"tree": Candidate(DecisionTreeClassifier(), search=3)}, "search is of type int: give a function of a trial"),
        ({"tree": Candidate(DecisionTreeClassifier(), preparation="mine")}, "preparation is 'mine': use 'labkit' or 'own'"),
    ],
)  # fmt: skip
def test_what_is_no_candidate_is_refused_before_anything_is_fitted(named: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        collect_own(named, Training(metric="log_loss"), CANCER, seed=1)


def test_function_that_fails_is_named_with_file_and_line(library: Path) -> None:
    (library / "broken.py").write_text("def make(seed):\n    return 1 / 0\n\n\ndef plain(rows):\n    return rows\n")
    for name, message in (
        ("make", "training.models: churn.broken:make: lib/churn/broken.py:2: it raised ZeroDivisionError: division by zero"),
        ("plain", "lib/churn/broken.py:5: it needs the argument 'rows': take any of task, seed, by name, or nothing"),
    ):  # fmt: skip
        with pytest.raises(ParamsError, match=re.escape(message)):
            collect_own({}, Training(models=(f"churn.broken:{name}",), metric="log_loss"), CANCER, seed=1)


class DerivedForest(RandomForestRegressor):  # type: ignore[misc]
    """A forest with the constructor of scikit-learn's."""


def test_seed_and_threads_are_set_where_none_are_given() -> None:
    given = {
        "free": RandomForestRegressor(n_jobs=-1),
        "fixed": RandomForestRegressor(n_jobs=1, random_state=5),
        "silent": make_pipeline(XGBRegressor(n_estimators=5)),
        "derived": DerivedForest(),
    }
    own = collect_own(given, NUMBERS, DIABETES, seed=9)
    assert own.pop("silent").estimator[-1].n_jobs == 2, "XGBoost would take all cores"
    assert own.pop("derived").estimator.n_jobs is None, "as the class of scikit-learn that it is derived from"
    assert {name: (one.estimator.random_state, one.estimator.n_jobs) for name, one in own.items()} == {
        "free": (9, 2),
        "fixed": (5, 1),
    }


@pytest.mark.slow
def test_run_is_refused_before_a_kernel_starts_if_a_module_cannot_be_imported(tmp_path: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    params = root / "params" / "small.yaml"
    text = params.read_text()
    params.write_text(text.replace("models: [dummy,", "models: ['churn.models:make_stak', dummy,"))
    (root / "lib" / "churn").mkdir(parents=True)
    (root / "lib" / "churn" / "models.py").write_text("def make_stack(): ...\n")
    line = params.read_text().partition("churn.models")[0].count("\n") + 1
    done = call_in_process(root, "run", "small")
    assert done.returncode == 2, done.stderr
    assert (
        f"params/small.yaml:{line}: training.models: churn.models:make_stak: lib/churn/models.py has no" in done.stderr
    )
    assert "did you mean 'make_stack'?" in done.stderr
    assert not (root / "reports").exists()
