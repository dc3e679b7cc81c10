"""Figures against scikit-learn's, intervals against the plain resampled definition."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import ParamsError
from labkit.model.evaluation import bootstrap, metrics, record
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.params.tables import Target
from labkit.params.training import CLASSIFICATION_METRICS, REGRESSION_METRICS
from scipy import stats
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression


def make_binary(n_rows: int = 150, positive: int = 1) -> Predictions:
    """Return predictions of two classes with many ties among the predictions."""
    random = np.random.default_rng(0)
    y_true = (random.random(n_rows) < 0.3).astype(int)
    probability = np.round(np.clip(0.3 + 0.2 * y_true + random.normal(size=n_rows) / 5, 0, 1), 2)
    return Predictions.from_proba(y_true, np.column_stack([1 - probability, probability]), ("no", "yes"), positive)


def make_multiclass(n_rows: int = 150) -> Predictions:
    """Return predictions of three classes, one of them rare."""
    random = np.random.default_rng(1)
    y_true = random.choice(3, n_rows, p=[0.6, 0.35, 0.05])
    raw = random.random((n_rows, 3)) + np.eye(3)[y_true] / 2
    return Predictions.from_proba(y_true, raw / raw.sum(axis=1, keepdims=True), ("a", "b", "c"), 2)


def make_regression(n_rows: int = 151) -> Predictions:
    """Return predictions of a regression."""
    random = np.random.default_rng(2)
    y_true = random.normal(size=n_rows) * 50
    return Predictions(y_true, y_true + random.normal(size=n_rows) * 20)


def compute_with_sklearn(predictions: Predictions) -> dict[str, float]:
    """Return the same metrics from scikit-learn."""
    y_true, y_pred, y_proba = predictions.y_true, predictions.y_pred, predictions.y_proba
    if not predictions.classes:
        return {
            "r2": sk.r2_score(y_true, y_pred),
            "mae": sk.mean_absolute_error(y_true, y_pred),
            "rmse": sk.root_mean_squared_error(y_true, y_pred),
            "median_absolute_error": sk.median_absolute_error(y_true, y_pred),
        }
    labels, is_binary = y_proba.argmax(axis=1), len(predictions.classes) == 2
    if is_binary:
        codes, f1 = [predictions.positive], {"pos_label": predictions.positive}
    else:
        codes, f1 = sorted(set(y_true)), {"average": "macro", "labels": sorted(set(y_true))}
    return {
        "roc_auc": np.mean([sk.roc_auc_score(y_true == code, y_proba[:, code]) for code in codes]),
        "average_precision": np.mean([sk.average_precision_score(y_true == code, y_proba[:, code]) for code in codes]),
        "log_loss": sk.log_loss(y_true, y_proba=y_proba, labels=range(len(predictions.classes))),
        "accuracy": sk.accuracy_score(y_true, labels),
        "balanced_accuracy": sk.recall_score(y_true, labels, average="macro", labels=sorted(set(y_true))),
        "f1": sk.f1_score(y_true, labels, zero_division=0, **f1),
    }


PREDICTIONS = {
    "binary": make_binary(),
    "binary, first class of interest": make_binary(positive=0),
    "multiclass": make_multiclass(),
    "regression": make_regression(),
    "regression, even": make_regression(150),
}


def test_models_compared_together_have_the_intervals_and_gains_of_each_alone() -> None:
    random = np.random.default_rng(3)
    y_true, noise = random.normal(size=80), random.normal(size=(2, 80))
    first, second = (Predictions(y_true, y_true + scale * one) for scale, one in zip((0.5, 1.0), noise, strict=True))
    draws: dict[str, Any] = {"n_samples": 50, "confidence": 0.9, "seed": 5, "blocks": make_rows(80)}
    names = ("r2", "mae")
    models = {name: dict.fromkeys(names, one) for name, one in (("model", first), ("other", second))}
    found, gains = bootstrap.compare_models(models, **draws)
    assert found["model"] == bootstrap.compute_intervals(first, names=names, **draws)
    assert found["other"] == bootstrap.compute_intervals(second, names=names, **draws)
    assert gains == {"other": {name: bootstrap.compare_paired(name, first, second, **draws) for name in names}}


@pytest.mark.parametrize("predictions", PREDICTIONS.values(), ids=PREDICTIONS)
def test_metrics_equal_those_of_scikit_learn(predictions: Predictions) -> None:
    found = metrics.compute_metrics(predictions)
    assert tuple(found) == (CLASSIFICATION_METRICS if predictions.classes else REGRESSION_METRICS)
    assert found == pytest.approx(compute_with_sklearn(predictions), rel=1e-12)


@pytest.mark.parametrize("predictions", PREDICTIONS.values(), ids=PREDICTIONS)
def test_weighted_draws_equal_resampled_rows(predictions: Predictions) -> None:
    scores = {name: metrics.make_score(name, predictions) for name in metrics.compute_metrics(predictions)}
    for weights in bootstrap.draw_weights(predictions, 25, seed=3, blocks=make_rows(len(predictions.y_true))):
        plain = predictions.take(np.repeat(np.arange(len(weights)), weights))
        expected = compute_with_sklearn(plain)
        assert {name: score(weights) for name, score in scores.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("predictions", PREDICTIONS.values(), ids=PREDICTIONS)
def test_intervals_are_the_bootstrap_widened_for_few_rows(predictions: Predictions) -> None:
    rows = make_rows(len(predictions.y_true))
    found = bootstrap.compute_intervals(predictions, n_samples=60, confidence=0.9, seed=5, blocks=rows)
    random, n_rows = np.random.default_rng(5), len(predictions.y_true)
    plain = [compute_with_sklearn(predictions.take(random.integers(0, n_rows, n_rows))) for _ in range(60)]
    tail = stats.norm.cdf(stats.t.ppf(0.05, n_rows - 1) * np.sqrt(n_rows / (n_rows - 1)))
    assert 0.045 < tail < 0.05
    for name, interval in found.items():
        low, high = np.quantile([sample[name] for sample in plain], [tail, 1 - tail])
        assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
        assert interval.low <= interval.value <= interval.high
    assert found == bootstrap.compute_intervals(predictions, n_samples=60, confidence=0.9, seed=5, blocks=rows)
    assert found != bootstrap.compute_intervals(predictions, n_samples=60, confidence=0.9, seed=6, blocks=rows)


def test_interval_covers_the_true_value_about_as_often_as_declared() -> None:
    random, hits = np.random.default_rng(7), 0
    for trial in range(100):
        errors = random.exponential(size=80)
        found = compute_mae(errors, make_rows(80), seed=trial)
        hits += found.low <= 1.0 <= found.high
    assert 80 <= hits <= 97


def compute_mae(errors: np.ndarray, blocks: Blocks, *, seed: int) -> bootstrap.Interval:
    """Return the mean absolute error with its 90 % interval."""
    options: dict[str, Any] = {"n_samples": 200, "confidence": 0.9, "seed": seed, "names": ["mae"]}
    return bootstrap.compute_intervals(Predictions(errors, errors * 0), **options, blocks=blocks)["mae"]


@pytest.mark.parametrize(("n_days", "share"), [(40, 0.9), (12, 0.9), (40, 0.0)])
def test_interval_by_days_covers_where_rows_of_a_day_are_alike(n_days: int, share: float) -> None:
    """Rows share a part of their error with all others of the day; by rows the interval is far too narrow."""
    random, by_days, by_rows = np.random.default_rng(3), 0, 0
    days = np.repeat(np.arange(n_days), 30)
    for trial in range(100):
        errors = 10 + share * random.normal(size=n_days)[days] + random.normal(size=len(days))
        for blocks in (Blocks(days, "day"), make_rows(len(days))):
            found = compute_mae(errors, blocks, seed=trial)
            is_hit = found.low <= 10.0 <= found.high
            by_days, by_rows = by_days + (is_hit and blocks.unit == "day"), by_rows + (is_hit and blocks.unit == "row")
    assert 82 <= by_days <= 98
    assert by_rows <= 60 if share else by_rows >= 82


def test_single_block_has_no_interval_and_json_has_no_nan() -> None:
    found = compute_mae(np.arange(50.0), Blocks(np.zeros(50, int), "day"), seed=0)
    assert found.value == 24.5
    assert np.isnan([found.low, found.high]).all()
    assert found.to_dict() == {"value": 24.5, "low": None, "high": None}
    back = bootstrap.Interval.from_dict(found.to_dict())
    assert np.isnan([back.low, back.high]).all()
    assert record.round_all({"a": [np.nan, np.inf, 0.1]}) == {"a": [None, None, 0.1]}


def test_metrics_by_hand() -> None:
    predictions = Predictions.from_proba(
        np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8]]), ("n", "y")
    )
    found = metrics.compute_metrics(predictions)
    assert found["roc_auc"] == 0.75
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["accuracy"] == found["balanced_accuracy"] == found["f1"] == 0.5
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.4, 0.8]).mean())


@pytest.mark.parametrize("positive", ["ill", "well", None])
def test_class_of_interest_is_honoured_whichever_label_comes_first(positive: str | None) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 1))
    y_true = pd.Series(np.where(x[:, 0] + random.normal(size=100) > 0.8, "ill", "well"))
    model = LogisticRegression().fit(x, y_true)
    target = Target(column="state", task="classification", positive=positive)
    predictions = compute_predictions(y_true, model, x, target)
    of_interest = positive or "well"
    assert predictions.classes[predictions.positive] == of_interest
    found = metrics.compute_metrics(predictions)
    assert found["f1"] == pytest.approx(sk.f1_score(y_true, model.predict(x), pos_label=of_interest))
    probabilities = model.predict_proba(x)[:, model.classes_.tolist().index(of_interest)]
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(y_true == of_interest, probabilities))


@pytest.mark.parametrize("labels", [["a", "b"], [0, 1], [1.0, 2.0], [True, False]])
def test_labels_of_any_type(labels: list[Any]) -> None:
    y_true = pd.Series(labels * 10)
    model = DummyClassifier().fit(np.zeros((20, 1)), y_true)
    predictions = compute_predictions(y_true, model, np.zeros((20, 1)), Target(column="y", task="classification"))
    assert metrics.compute_metrics(predictions)["roc_auc"] == 0.5


def test_class_that_training_never_saw_counts_as_a_mistake() -> None:
    model = DummyClassifier(strategy="most_frequent").fit(np.zeros((3, 1)), ["a", "a", "b"])
    target = Target(column="y", task="classification")
    predictions = compute_predictions(["a", "new"], model, np.zeros((2, 1)), target)
    assert predictions.classes == ("a", "b", "new")
    assert predictions.y_true.tolist() == [0, 2]
    assert predictions.y_proba.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert metrics.compute_metric("accuracy", predictions) == 0.5


def test_many_rare_classes_do_not_hang_the_draws() -> None:
    y_true = np.arange(60)
    predictions = Predictions.from_proba(y_true, np.full((60, 60), 1 / 60), tuple(range(60)))
    found = bootstrap.compute_intervals(predictions, n_samples=100, confidence=0.95, seed=0, blocks=make_rows(60))
    assert all(np.isfinite([interval.low, interval.high]).all() for interval in found.values())


def test_every_draw_has_both_classes() -> None:
    predictions = Predictions.from_proba(np.array([1] + [0] * 20), np.full((21, 2), 0.5), ("a", "b"))
    draws = list(bootstrap.draw_weights(predictions, 200, seed=0, blocks=make_rows(21)))
    assert len(draws) == 200
    assert all(weights[0] > 0 and weights.sum() == 21 for weights in draws)


@pytest.mark.parametrize("name", ["roc_auc", "f1", "accuracy", "log_loss"])
def test_paired_gain_is_positive_for_the_better_classifier(name: str) -> None:
    y_true = make_binary(400).y_true
    probability = np.where(y_true == 1, 0.8, 0.2) + np.random.default_rng(0).uniform(-0.15, 0.4, 400) * (1 - 2 * y_true)
    good = Predictions.from_proba(y_true, np.column_stack([1 - probability, probability]), ("no", "yes"), 1)
    bad = Predictions.from_proba(good.y_true, np.tile([0.45, 0.55], (400, 1)), good.classes, good.positive)
    check_paired(name, good, bad)


@pytest.mark.parametrize("name", REGRESSION_METRICS)
def test_paired_gain_is_positive_for_the_better_regression(name: str) -> None:
    good = make_regression()
    check_paired(name, good, Predictions(good.y_true, np.zeros(len(good.y_true))))


def check_paired(name: str, good: Predictions, bad: Predictions) -> None:
    """Verify a comparison against its mirror image and against the metrics."""
    options = {"n_samples": 100, "confidence": 0.95, "seed": 0, "blocks": make_rows(len(good.y_true))}
    gain = bootstrap.compare_paired(name, good, bad, **options)  # type: ignore[arg-type]
    loss = bootstrap.compare_paired(name, bad, good, **options)  # type: ignore[arg-type]
    assert gain.low > 0
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))
    difference = metrics.compute_metric(name, good) - metrics.compute_metric(name, bad)
    assert abs(gain.value) == pytest.approx(abs(difference))
    same = bootstrap.compare_paired(name, good, good, **options)  # type: ignore[arg-type]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_metrics_of_degenerate_targets() -> None:
    assert metrics.compute_metric("r2", Predictions(np.ones(3), np.ones(3))) == 1
    assert metrics.compute_metric("r2", Predictions(np.ones(3), np.zeros(3))) == 0
    one = Predictions.from_proba(np.zeros(3, int), np.tile([0.5, 0.5], (3, 1)), ("a", "b"))
    assert np.isnan(metrics.compute_metric("roc_auc", one))
    certain = Predictions.from_proba(np.array([0, 1]), np.array([[0.0, 1.0], [1.0, 0.0]]), ("a", "b"))
    assert 30 < metrics.compute_metric("log_loss", certain) < 40
    with pytest.raises(ParamsError, match="there is no metric 'mae'"):
        metrics.compute_metric("mae", certain)


def test_record_keeps_its_layout_rounded_to_nine_digits() -> None:
    one = bootstrap.Interval(0.12345678949, 0.1, 123456.7891234)
    periods = pd.DataFrame({"period": ["2024-01"], "rows": [9], "model": [0.5], "plain LightGBM": [0.4]})
    found, gains = {"model": {"mae": one}, "plain LightGBM": {"mae": one}}, {"dummy": {"mae": one}}
    made = record.make_record(found, gains, periods, "mae")
    rounded = {"value": 0.123456789, "low": 0.1, "high": 123456.789}
    assert record.round_all(made) == {
        "holdout": {"mae": rounded},
        "plain_lightgbm": {"mae": 0.123456789},
        "paired": {"dummy": rounded},
        "gains": {"dummy": {"mae": rounded}},
        "by_period": {"2024-01": {"rows": 9, "value": 0.5, "plain_lightgbm": 0.4}},
    }
    assert record.make_record({"model": {"mae": one}}, {}, pd.DataFrame(), "mae")["by_period"] == {}


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression"])
def test_summary_of_rows_in_two_numbers(name: str) -> None:
    predictions = PREDICTIONS[name]
    found = bootstrap.compute_means(predictions)
    if name == "multiclass":
        labels = predictions.y_proba.argmax(axis=1)
        assert found == {
            "true": (labels == predictions.y_true).mean(),
            "prediction": predictions.y_proba.max(axis=1).mean(),
        }
    else:
        predicted = predictions.y_proba[:, 1] if name == "binary" else predictions.y_pred
        assert found == {"true": predictions.y_true.mean(), "prediction": predicted.mean()}


EVALUATION = {
    "metric": "mae",
    "rows": 110,
    "holdout": {"mae": {"value": 41.0, "low": 35.0, "high": 48.0}, "r2": {"value": 0.5, "low": None, "high": None}},
    "paired": {
        "dummy": {"value": 22.0, "low": 15.0, "high": 30.0},
        "plain_lightgbm": {"value": 1.0, "low": None, "high": None},
    },
    "threshold": {},
}
CHOICE = {"scores": {"cv_mae": 47.0, "cv_mae_std": 3.0, "validation_mae": 40.0}}
HEADLINE = {
    "holdout_mae": 41.0,
    "holdout_mae_low": 35.0,
    "holdout_mae_high": 48.0,
    "gain_over_dummy": 22.0,
    "gain_over_dummy_low": 15.0,
    "gain_over_dummy_high": 30.0,
    "validation_mae": 40.0,
    "cv_mae": 47.0,
    "holdout_rows": 110,
}


def test_headline_names_each_number_by_the_rows_it_was_measured_on() -> None:
    assert record.make_headline(EVALUATION, CHOICE) == HEADLINE
    acted = {**EVALUATION, "threshold": {"cost": {"value": 0.49, "low": 0.4, "high": 0.6}}}
    assert record.make_headline(acted, CHOICE) == {**HEADLINE, "holdout_cost_per_row": 0.49}


def test_metrics_for_dvc_have_the_same_short_names_in_each_experiment() -> None:
    short = {"holdout": 41.0, "low": 35.0, "high": 48.0, "validation": 40.0, "cv": 47.0, "gain": 22.0}
    assert record.make_dvc_metrics(EVALUATION, CHOICE) == {"metric": "mae", **short}
    acted = {**EVALUATION, "threshold": {"cost": {"value": 0.49, "low": 0.4, "high": 0.6}}}
    assert record.make_dvc_metrics(acted, CHOICE) == {"metric": "mae", **short, "cost": 0.49}


def test_logged_metrics_are_the_headline_and_every_metric_that_is_defined() -> None:
    assert record.make_logged(EVALUATION, CHOICE) == {**HEADLINE, "holdout_r2": 0.5, "gain_over_plain_lightgbm": 1.0}
