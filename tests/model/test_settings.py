"""What training does on request: weights, fewer features, scales of the target, many categories, budgets, few rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import BudgetError, ModelError
from labkit.features.row_features import RowFeatures
from labkit.model.estimators import candidates, preprocessing
from labkit.model.estimators.calibrated import Calibrated
from labkit.model.estimators.target_transform import OnScale
from labkit.model.onnx import graph
from labkit.model.onnx.hard_rows import make_hard_rows
from labkit.model.release import skops_file
from labkit.model.release.model_card import name_estimator
from labkit.model.training import comparison
from labkit.model.training.cross_validation import make_folds, plan_folds
from labkit.model.training.selection import choose
from labkit.model.training.time_budget import Budget
from labkit.model.training.tuning import tune
from labkit.params.tables import Target
from labkit.params.training import Training
from sklearn.linear_model import LogisticRegression, Ridge

from tests.model.tables import limit_trees, make_timeline

PRICE = Target(column="price", task="regression")
KIND = Target(column="kind", task="classification")
N = 300


def make_table(n_rows: int = N) -> pd.DataFrame:
    """Return numbers, a column of many categories, and targets that depend on both."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{number}": random.normal(size=n_rows) for number in range(6)})
    frame["city"] = [f"city {value}" for value in random.integers(0, 70, n_rows)]
    return frame


def make_price(frame: pd.DataFrame) -> pd.Series:
    """Return skewed targets, all above 0."""
    return pd.Series(np.exp(frame["x0"] + frame["city"].str[-1].astype(int) / 3))


def fit(training: Training, target: Target, y_true: pd.Series, model: str = "lightgbm") -> Any:
    """Return a model of the table, with what training asks for."""
    frame = make_table()
    row_features = RowFeatures(columns={"categories": {"city": 200}}, fewest_rows=1).fit(frame)
    features = row_features.transform(frame)
    candidate = candidates.make_candidate(model, target, preprocessing.find_kinds(features), seed=0)
    limit_trees(candidate[-1], 60)
    adjusted = candidates.adjust(candidate, target, training, seed=0)
    return comparison.fit_model(adjusted, row_features, [(features, y_true)], target=target, seed=0)


def prove(model: Any, folder: Path) -> graph.Parity:
    """Return how far an ONNX graph is from a model read back from its file, on real rows and on spoilt ones."""
    skops_file.save_model(folder / "model.skops", model)
    read = skops_file.load_model(folder / "model.skops")
    frame = make_table()
    hard = make_hard_rows(frame, model[0].inputs_, n_rows=200, seed=0)
    return graph.make_graph(read, frame, tolerance=1e-5, hard=hard)[1]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "lightgbm", "blend"])
@pytest.mark.parametrize("kind", ["log", "yeo_johnson"])
def test_scale_of_the_target_travels_into_file_and_graph(model: str, kind: str, tmp_path: Path) -> None:
    y_true = make_price(make_table())
    fitted = fit(Training(metric="mae", target_transform=kind), PRICE, y_true, model)
    assert prove(fitted, tmp_path).reason == ""
    plain = fit(Training(metric="mae"), PRICE, y_true, "linear")
    if model == "linear":
        frame = make_table()
        assert np.median(abs(fitted.predict(frame) - y_true)) < np.median(abs(plain.predict(frame) - y_true))


@pytest.mark.parametrize("kind", ["log", "yeo_johnson"])
def test_the_way_back_ends_where_it_began(kind: str) -> None:
    column = np.linspace(-0.9 if kind == "log" else -50, 80, 40)
    scale = OnScale(Ridge(), kind).fit(column[:, None], column)
    there = np.log1p(column) if kind == "log" else scale_of(column, scale.power_)
    np.testing.assert_allclose(scale.invert(there), column, atol=1e-8)


def scale_of(values: np.ndarray, power: float) -> np.ndarray:
    """Return numbers on the scale of Yeo and Johnson, as their paper writes it."""
    above = ((np.maximum(values, 0) + 1) ** power - 1) / power
    below = -((np.maximum(-values, 0) + 1) ** (2 - power) - 1) / (2 - power)
    return np.where(values >= 0, above, below)


def test_what_predicts_is_named_with_what_was_put_around_it() -> None:
    assert name_estimator(Ridge()) == "Ridge"
    assert name_estimator(OnScale(Ridge(), "yeo_johnson")) == "Ridge on a yeo-johnson scale"
    assert name_estimator(Calibrated(LogisticRegression())) == "LogisticRegression, calibrated"
    blend = candidates.make_candidate("blend", PRICE, {"x": "number"}, seed=0)[-1]
    assert name_estimator(OnScale(blend, "log")) == "blend of linear, extra trees and lightgbm on a log scale"


def test_log_refuses_targets_without_a_logarithm() -> None:
    with pytest.raises(ModelError, match="log needs target values above -1, not -3: use yeo_johnson"):
        OnScale(Ridge(), "log").fit(np.zeros((2, 1)), [-3.0, 1.0])


def test_tuning_reaches_the_estimator_on_its_scale() -> None:
    frame = make_table()
    features = RowFeatures().fit_transform(frame)
    training = Training(
        metric="mae", models=("dummy", "linear"), folds=2, tuning_trials=3, target_transform="yeo_johnson"
    )
    rows = {"target": PRICE, "training": training, "seed": 0}
    compared = comparison.compare(features, make_price(frame), **rows)  # type: ignore[arg-type]
    tuned = tune(compared, features, make_price(frame), **rows)  # type: ignore[arg-type]
    assert isinstance(tuned.candidate[-1], OnScale)
    assert tuned.frame["alpha"].nunique() == 3


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "lightgbm", "hist_gradient_boosting", "random_forest", "blend"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_many_categories_are_encoded_by_their_mean_target(model: str, n_classes: int, tmp_path: Path) -> None:
    frame = make_table()
    y_true = frame["city"].str[-1].astype(int).map(lambda digit: f"kind {digit % n_classes}")
    fitted = fit(Training(metric="log_loss"), KIND, y_true, model)
    assert "many_categories" in dict(fitted[1].named_transformers_)
    assert (fitted.predict(frame) == y_true).mean() > 0.8
    assert prove(fitted, tmp_path).reason == ""


def test_no_row_sees_its_own_target_in_a_mean() -> None:
    random = np.random.default_rng(1)
    features = pd.DataFrame({"city": [f"c{number}" for number in range(N)]})
    y_true = pd.Series(random.normal(size=N))
    preparation = preprocessing.make_preparation({"city": "many"}, is_scaled=False, task="regression")
    made = preparation.fit_transform(features, y_true)
    assert abs(np.corrcoef(made[:, 0], y_true)[0, 1]) < 0.3, "every category is one row: its mean would leak the target"


@pytest.mark.slow
def test_features_are_chosen_inside_the_candidate(tmp_path: Path) -> None:
    y_true = pd.Series(np.where(make_table()["x3"] > 0, "a", "b"))
    fitted = fit(Training(metric="log_loss", most_features=2), KIND, y_true)
    assert fitted[1][-1].get_support().sum() == 2
    assert fitted[-1].n_features_in_ == 2
    assert prove(fitted, tmp_path).reason == ""
    everything = fit(Training(metric="log_loss", most_features=500), KIND, y_true)
    assert everything[-1].n_features_in_ == 7


def test_balanced_classes_raise_the_rare_one() -> None:
    frame = make_table()
    y_true = pd.Series(np.where(frame["x0"] + frame["x1"] > 2, "rare", "usual"))
    probabilities = [
        fit(Training(metric="log_loss", class_weight=weight), KIND, y_true, "linear").predict_proba(frame)[:, 0].mean()
        for weight in ("none", "balanced")
    ]
    assert probabilities[1] > 1.5 * probabilities[0]


def test_few_rows_are_cut_into_folds_several_times() -> None:
    y_true = pd.Series(np.arange(90.0))
    usual = {"target": PRICE, "seed": 0, "timeline": None}
    folds = plan_folds(y_true, training=Training(metric="mae", folds=3), **usual)  # type: ignore[arg-type]
    assert len(folds) == 9
    assert len({tuple(test) for _, test in folds}) == 9
    once = Training(metric="mae", folds=3, repeats=1)
    assert len(plan_folds(y_true, training=once, **usual)) == 3  # type: ignore[arg-type]
    many = pd.Series(np.arange(400.0))
    assert len(plan_folds(many, training=Training(metric="mae", folds=3), **usual)) == 3  # type: ignore[arg-type]
    ordered = {**usual, "timeline": make_timeline(90)}
    assert len(plan_folds(y_true, training=Training(metric="mae", folds=3), **ordered)) == 3  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
def test_a_class_of_one_row_is_never_judged_where_it_was_not_fitted() -> None:
    y_true = pd.Series(["a"] * 20 + ["b"] * 20 + ["single"])
    for train, test in make_folds(y_true, target=KIND, n_folds=5, seed=0):
        assert set(y_true[test]) <= set(y_true[train])


def test_budget_ends_comparing_and_tuning_and_is_reported() -> None:
    frame = make_table(100)
    training = Training(
        metric="mae", models=("dummy", "linear", "random_forest", "lightgbm"), folds=2, budget_seconds=1e-3,
        tuning_trials=5,
    )  # fmt: skip
    features, y_true = RowFeatures().fit_transform(frame), make_price(frame)
    compared = comparison.compare(features, y_true, target=PRICE, training=training, seed=0)
    errors = compared.frame.set_index("model")["error"]
    assert errors["linear"] == "", "one candidate is always judged to the end"
    assert errors["lightgbm"] == errors["random_forest"] == "BudgetError: the budget of 0.001 s was used up"
    tuned = tune(compared, features, y_true, target=PRICE, training=training, seed=0)
    assert tuned.frame.empty
    assert choose(compared, tuned, "mae").model == "linear"


def test_no_budget_is_never_used_up() -> None:
    Budget().check()
    with pytest.raises(BudgetError, match="the budget of 0 s was used up"):
        Budget(0).check()
