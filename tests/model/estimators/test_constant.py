"""The best constant of each metric, against a search over constants, and that noise does not beat it."""

import json

import numpy as np
import pandas as pd
import pytest
from labkit.model.estimators.constant import make_constant, name_constant
from labkit.model.evaluation import bootstrap, gate, metrics
from labkit.model.evaluation.baselines import fit_dummies, predict_dummies
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.model.training import comparison, selection
from labkit.model.training.tuning import tune
from labkit.params.evaluation import Gate
from labkit.params.tables import Target
from labkit.params.training import CLASSIFICATION_METRICS, REGRESSION_METRICS, Training

NUMBER = Target(column="y", task="regression")
TWO = Target(column="y", task="classification", positive="yes")
THREE = Target(column="y", task="classification")


@pytest.mark.parametrize("metric", REGRESSION_METRICS)
def test_no_other_constant_is_better_for_a_number(metric: str) -> None:
    y_true = np.random.default_rng(0).lognormal(size=301)
    made = make_constant(metric, NUMBER).fit(np.zeros((301, 1)), y_true)
    best = metrics.compute_metric(metric, compute_predictions(y_true, made, np.zeros((301, 1)), NUMBER))
    sign = 1 if metrics.is_greater_better(metric) else -1
    for constant in np.linspace(y_true.min(), y_true.max(), 2000):
        predictions = Predictions(y_true, np.full(301, constant))
        assert sign * metrics.compute_metric(metric, predictions) <= sign * best + 1e-9


@pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
@pytest.mark.parametrize(("target", "labels"), [(TWO, ["no", "yes"]), (THREE, ["a", "b", "c"])])
def test_no_other_constant_is_better_for_classes(metric: str, target: Target, labels: list[str]) -> None:
    random = np.random.default_rng(0)
    y_true = pd.Series(random.choice(labels, 400, p=[0.8, 0.2] if len(labels) == 2 else [0.5, 0.3, 0.2]))
    made = make_constant(metric, target).fit(np.zeros((400, 1)), y_true)
    predictions = compute_predictions(y_true, made, np.zeros((400, 1)), target)
    sign, best = 1 if metrics.is_greater_better(metric) else -1, metrics.compute_metric(metric, predictions)
    for constant in [*np.eye(len(labels)), *random.dirichlet(np.ones(len(labels)), 300)]:
        tried = Predictions.from_proba(
            predictions.y_true, np.tile(constant, (400, 1)), predictions.classes, predictions.positive
        )
        assert sign * metrics.compute_metric(metric, tried) <= sign * best + 1e-9


def test_constants_are_named_and_have_intervals() -> None:
    assert [name_constant(name, n_classes=0) for name in ("r2", "mae")] == ["the mean", "the median"]
    assert name_constant("f1", n_classes=3) == "the most frequent class"
    frame = pd.DataFrame({"y": np.random.default_rng(0).lognormal(size=100)})
    options = {"n_samples": 100, "confidence": 0.9, "seed": 0, "blocks": make_rows(100)}
    dummies = predict_dummies(fit_dummies(frame, target=NUMBER), frame["y"], target=NUMBER)
    found = bootstrap.compare_models({"dummy": dummies}, **options)[0]["dummy"]  # type: ignore[arg-type]
    assert list(found) == list(REGRESSION_METRICS)
    assert found["mae"].value == pytest.approx(np.abs(frame["y"] - frame["y"].median()).mean())
    assert found["r2"].value == pytest.approx(0)


OPTIONS = [
    *({"metric": metric} for metric in (*REGRESSION_METRICS, *CLASSIFICATION_METRICS)),
    *({"metric": metric, "target_transform": kind} for metric in REGRESSION_METRICS for kind in ("log", "yeo_johnson")),
    *({"metric": metric, "class_weight": "balanced"} for metric in CLASSIFICATION_METRICS),
    {"metric": "mae", "most_features": 2},
    {"metric": "f1", "most_features": 2},
]
N_TABLES = 12


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_noise_does_not_pass_the_gate_more_often_than_at_random(options: dict[str, object]) -> None:
    """Columns and target are independent; of 12 tables at 97.5 % each, three passing has a probability of 0.3 %."""
    target = NUMBER if options["metric"] in REGRESSION_METRICS else TWO
    passed = sum(passes(options, target, seed) for seed in range(N_TABLES))
    assert passed <= 2


def passes(options: dict[str, object], target: Target, seed: int) -> bool:
    """Return whether a linear model that learnt from noise is called better than the best constant."""
    random = np.random.default_rng(1000 + seed)
    features = pd.DataFrame(random.normal(size=(500, 4)), columns=list("abcd"))
    skewed = pd.Series(random.lognormal(sigma=1.2, size=500))
    y_true = skewed if target.task == "regression" else pd.Series(np.where(skewed > 2, "yes", "no"))
    training = Training.model_validate_json(json.dumps({"models": ["dummy", "linear"], "folds": 2, **options}))
    learn, judge = slice(0, 300), slice(300, 500)
    compared = comparison.compare(features[learn], y_true[learn], target=target, training=training, seed=seed)
    model = compared.candidates["linear"].fit(features[learn], y_true[learn])
    dummy = compared.candidates["dummy"].fit(features[learn], y_true[learn])
    predictions = [compute_predictions(y_true[judge], one, features[judge], target) for one in (model, dummy)]
    metric, blocks = training.metric, make_rows(200)
    draws = {"n_samples": 200, "confidence": 0.95, "seed": seed, "blocks": blocks}
    gain = bootstrap.compare_paired(metric, *predictions, **draws)  # type: ignore[arg-type]
    n_classes = 0 if target.task == "regression" else 2
    return gate.check_dummy(metric, gain, Gate(), confidence=0.95, blocks=blocks, n_classes=n_classes).passed


@pytest.mark.slow
def test_choice_reports_that_no_candidate_is_better_than_the_dummy() -> None:
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(120, 8)), columns=list("abcdefgh"))
    shown = {"target": NUMBER, "seed": 0}
    training = Training(models=("dummy", "linear", "lightgbm"), metric="mae", folds=3)
    for y_true, beats in ((pd.Series(random.normal(size=120)), False), (features["a"], True)):
        compared = comparison.compare(features, y_true, training=training, **shown)
        chosen = selection.choose(compared, tune(compared, features, y_true, training=training, **shown), "mae")
        assert chosen.model != "dummy"
        assert chosen.beats_dummy is beats
        assert chosen.reason.startswith("none is better than the dummy, whose mean is ") is not beats
