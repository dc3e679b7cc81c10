"""Candidates on real small tables."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from joblib import effective_n_jobs
from labkit.errors import ModelError
from labkit.features.row_features import RowFeatures
from labkit.model.estimators import candidates, preprocessing
from labkit.model.training import comparison
from labkit.model.training.cross_validation import cross_validate, fit_candidate, make_folds
from labkit.params.tables import Target
from labkit.params.training import CLASSIFIERS, MODELS, USUAL_MODELS, Training
from labkit.stages.source import load_bundled
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor

from tests.model.tables import make_timeline
from tests.model.training.real_tables import CANCER, DIABETES, load


@pytest.mark.slow
def test_every_candidate_beats_the_dummy_on_real_tables() -> None:
    for name, target, metric in (("diabetes", DIABETES, "mae"), ("breast_cancer", CANCER, "log_loss")):
        features, y_true, _ = load(name)
        reported: list[str] = []
        compared = comparison.compare(
            features,
            y_true,
            target=target,
            training=Training(models=USUAL_MODELS, metric=metric, folds=2),
            seed=0,
            on_candidate=lambda model, result, reported=reported: reported.append(f"{model} {result}"),
        )
        board = compared.frame
        assert board["model"].iloc[-1] == "dummy"
        assert compared.best == board["model"].iloc[0]
        assert board["rank"].tolist() == list(range(1, 1 + len(USUAL_MODELS)))
        assert (board["error"] == "").all()
        assert board[metric].is_monotonic_increasing
        assert list(board)[:3] == ["rank", "model", "source"]
        assert set(board["source"]) == {"sklearn"}
        assert [line.split()[0] for line in reported] == list(USUAL_MODELS)
        assert set(compared.seconds) == set(USUAL_MODELS)
        assert not [column for column in board if "second" in column]


@pytest.mark.slow
def test_blend_is_the_mean_of_its_members_and_predicts_with_one_thread() -> None:
    for name, target in (("diabetes", DIABETES), ("breast_cancer", CANCER)):
        features, y_true, _ = load(name)
        blend = candidates.make_candidate("blend", target, preprocessing.find_kinds(features), seed=0)
        fitted = fit_candidate(blend, features, y_true)
        prepared = fitted[0].transform(features)
        ask = "predict" if target.task == "regression" else "predict_proba"
        members = [getattr(member, ask)(prepared) for member in fitted[-1].estimators_]
        assert len(members) == len(candidates.BLENDED)
        np.testing.assert_allclose(getattr(fitted, ask)(features), np.mean(members, axis=0), rtol=1e-12)
        settings = [member.get_params() for member in fitted[-1].estimators_]
        threads = {value for own in settings for key, value in own.items() if key.endswith("n_jobs")}
        assert threads <= {1, None}
        assert 1 in threads


def test_neighbours_measure_numbers_of_one_unit_as_they_are() -> None:
    """Stretched one by one, pixels at the rim that are nearly always empty would count as much as those in the middle."""
    digits, y_true, _ = load("digits")
    target = Target(column="target", task="classification")
    assert set(preprocessing.find_kinds(digits).values()) == {"alike"}
    accuracies = []
    for kinds in (preprocessing.find_kinds(digits), dict.fromkeys(digits.columns, "number")):
        candidate = candidates.make_candidate("nearest_neighbours", target, kinds, seed=0)
        folds = make_folds(y_true, target=target, n_folds=5, seed=0)
        accuracies.append(cross_validate(candidate, digits, y_true, target=target, folds=folds)["accuracy"])
    assert accuracies[0] > accuracies[1]
    wine, _, _ = load("wine")
    assert set(preprocessing.find_kinds(wine).values()) == {"number"}


def test_folds_of_one_class_are_skipped_and_an_error_is_raised_if_none_is_left() -> None:
    """The first rows in time hold both classes; those that a fold is judged on may hold one."""
    features = pd.DataFrame({"x": np.arange(60.0)})
    y_true = pd.Series(["a", "b"] * 20 + ["a"] * 20)
    target = Target(column="y", task="classification", positive="b")
    options = {"target": target, "seed": 0, "timeline": make_timeline(60)}
    found = comparison.compare(
        features, y_true, training=Training(models=("dummy", "linear"), metric="roc_auc", folds=5), **options
    )
    assert found.frame[["roc_auc", "roc_auc_std"]].notna().all(axis=None)
    training = Training(models=("linear",), metric="roc_auc", folds=2)
    with pytest.raises(ModelError, match="roc_auc is not defined on any fold: each has rows of only one class"):
        comparison.compare(features, pd.Series(["a", "b"] * 10 + ["a"] * 40), training=training, **options)


class Failing(DummyRegressor):
    """An estimator that cannot be fitted, and does not explain why."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Failing":
        raise AssertionError


@pytest.mark.slow
def test_failing_candidate_stays_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (lambda seed: Failing(), lambda seed: Failing()))
    features, y_true, _ = load("diabetes")
    training = Training(models=("linear", "dummy", "lightgbm"), metric="r2", folds=2)
    compared = comparison.compare(features, y_true, target=DIABETES, training=training, seed=0)
    assert compared.frame["model"].tolist() == ["lightgbm", "dummy", "linear"]
    place = f"at tests/model/training/test_comparison.py:{Failing.fit.__code__.co_firstlineno + 1}, in fold 1 of 2"
    assert compared.frame["error"].tolist() == ["", "", f"AssertionError: , {place}"]
    assert compared.best == "lightgbm"
    training = Training(models=("dummy", "linear"), metric="r2", folds=2)
    with pytest.raises(ModelError, match="no candidate besides the dummy could be fitted: linear: AssertionError"):
        comparison.compare(features, y_true, target=DIABETES, training=training, seed=0)
    training = Training(models=("dummy",), metric="r2", folds=2)
    with pytest.raises(ModelError, match=r"could be fitted: training\.models has none"):
        comparison.compare(features, y_true, target=DIABETES, training=training, seed=0)


class Spread(BaseEstimator):
    """Predict how far the largest and smallest filled value of a fit were apart."""

    def fit(self, X: np.ndarray, y: object) -> "Spread":
        self.spread_ = float(X.max() - X.min())
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.spread_)


def test_preparation_is_learnt_inside_each_fold() -> None:
    # Each row fills one column alone: the median of a column, learnt on all rows, would be its one value, also where
    # that value's row is held out.
    features = pd.DataFrame(np.where(np.eye(10, dtype=bool), 5.0, np.nan), columns=[f"c{n}" for n in range(10)])
    y_true = pd.Series(np.zeros(10))
    candidate = candidates.make_candidate("linear", DIABETES, preprocessing.find_kinds(features), seed=0)
    candidate.set_params(
        preparation=preprocessing.make_preparation(preprocessing.find_kinds(features), is_scaled=False)
    )
    candidate.set_params(estimator=Spread())
    folds = make_folds(y_true, target=DIABETES, n_folds=5, seed=0)
    scores = cross_validate(candidate, features, y_true, target=DIABETES, folds=folds)
    # Two columns of ten are without any value in each fold's training rows and so filled by 0.
    assert scores["mae"] == pytest.approx(5.0)


@pytest.mark.slow
def test_unseen_categories_and_missing_values_do_not_stop_any_candidate() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"k": random.choice(["a", "b", "c"], 90), "x": random.normal(size=90), "empty": np.nan})
    frame.loc[::4, "x"] = np.nan
    y_true = pd.Series(np.where(frame["k"] == "a", 3, 1))
    row_features = RowFeatures().fit(frame)
    for name in MODELS:
        target = Target(column="y", task="classification")
        model = comparison.fit_model(
            name, row_features, [(row_features.transform(frame), y_true)], target=target, seed=0
        )
        new = pd.DataFrame({"k": ["never", None], "x": [np.nan, 1e39], "empty": [1.0, np.nan]})
        probabilities = model.predict_proba(new)
        assert probabilities.shape == (2, 2)
        assert np.isfinite(probabilities).all()
        if "n_jobs" in model[-1].get_params():
            assert effective_n_jobs(model[-1].n_jobs) == 1, "several threads add votes in any order"


def test_model_is_fitted_on_all_parts_and_takes_raw_rows() -> None:
    features, y_true, row_features = load("diabetes")
    parts = [(features[:300], y_true[:300]), (features[300:], y_true[300:])]
    model = comparison.fit_model("dummy", row_features, parts, target=DIABETES, seed=0)
    assert [name for name, _ in model.steps] == ["row_features", "preparation", "estimator"]
    assert model.predict(load_bundled("t", "diabetes"))[0] == pytest.approx(y_true.mean())


def make_board() -> str:
    """Return the leaderboard of a small table with every digit."""
    features, y_true, _ = load("breast_cancer")
    training = Training(models=USUAL_MODELS, metric="roc_auc", folds=2)
    board = comparison.compare(features[:120], y_true[:120], target=CANCER, training=training, seed=0).frame
    return board.to_csv(float_format="%r")


@pytest.mark.slow
def test_leaderboard_is_the_same_bytes_in_two_processes() -> None:
    command = [sys.executable, "-c", f"from {__name__} import make_board; print(make_board(), end='')"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    other = subprocess.run(command, capture_output=True, check=True, env=environment, text=True).stdout
    assert other.count("\n") > 6
    assert make_board() == other


def test_classifier_without_a_regressor_stays_with_its_reason() -> None:
    features, y_true, _ = load("diabetes")
    training = Training(models=("linear", *CLASSIFIERS), metric="r2", folds=2)
    board = comparison.compare(features, y_true, target=DIABETES, training=training, seed=0).frame
    assert board["error"].tolist() == ["", "ModelError: naive_bayes is not for regression"]


def test_latest_rows_are_compared_where_rows_are_in_order() -> None:
    features, y_true, _ = load("diabetes")
    training = Training(models=("dummy", "linear"), metric="mae", folds=2, most_rows=100)
    times = make_timeline(len(features))
    latest = comparison.compare(features, y_true, target=DIABETES, training=training, seed=0, timeline=times)
    same = comparison.compare(
        features[-100:], y_true[-100:], target=DIABETES, training=training, seed=0, timeline=times
    )
    drawn = comparison.compare(features, y_true, target=DIABETES, training=training, seed=0)
    assert latest.n_rows == drawn.n_rows == 100
    pd.testing.assert_frame_equal(latest.frame, same.frame)
    assert not latest.frame.equals(drawn.frame)
