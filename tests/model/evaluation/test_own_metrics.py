"""Metrics of the user's own: they rank, tune and gate like labkit's, or are refused with file and line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import ModelError, ParamsError
from labkit.model.evaluation import baselines, bootstrap, by_period, gate, metrics, slices, threshold
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.method_checks import describe_groups
from labkit.model.evaluation.predictions import Predictions
from labkit.model.training.comparison import compare
from labkit.model.training.selection import choose
from labkit.model.training.tuning import tune
from labkit.params.evaluation import Costs, Gate
from labkit.params.load import load_params, parse_file
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.training import Training
from labkit.run.pipeline.experiment_run import check_own_code, write_settings
from labkit.run.pipeline.progress import Progress
from labkit.view import evaluation_plots, model_plots, prose

from tests.model.training.real_tables import CANCER, DIABETES, load
from tests.own_library import open_library

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "own-metrics.md").read_text()
PROFIT = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)[0]
DECLARE = "from labkit.params.own_metrics import metric\nimport numpy as np\n"
PLAIN = DECLARE + "@metric(better='smaller')\ndef mine(y_true, y_pred):\n"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the package `churn` in the lib folder of an empty checkout; no metric stays in use."""
    with open_library(tmp_path, monkeypatch, "churn") as folder:
        (folder / "metrics.py").write_text(PROFIT)
        yield folder
    OWN_METRICS.use(())


def compute_profit(predictions: Predictions, rows: np.ndarray) -> float:
    """Return the metric of the docs, by loops."""
    gains = [
        (90 * (true == predictions.positive) - 10) * (probability >= 0.1)
        for true, probability in zip(
            predictions.y_true[rows], predictions.y_proba[rows, predictions.positive], strict=True
        )
    ]  # fmt: skip
    return float(np.mean(gains))


def test_metric_of_the_docs_ranks_tunes_and_gates(library: Path) -> None:
    OWN_METRICS.use(("churn.metrics:profit", "sklearn.metrics:recall_score"))
    features, y_true, _ = load("breast_cancer")
    training = Training(models=("dummy", "linear", "lightgbm"), metric="profit", folds=2, tuning_trials=2)
    how: dict[str, Any] = {"target": CANCER, "training": training, "seed": 7}
    compared = compare(features, y_true, **how)
    board = compared.frame
    assert board["error"].eq("").all(), board["error"].tolist()
    assert board["profit"].is_monotonic_decreasing, "greater is better"
    assert board["model"].iloc[-1] == "dummy"
    assert {"profit_std", "recall_score", "roc_auc"} <= {*board}
    tuned = tune(compared, features, y_true, **how)
    chosen = choose(compared, tuned, "profit")
    assert chosen.beats_dummy
    assert chosen.score == max(board["profit"].max(), tuned.frame["profit"].max())
    assert model_plots.plot_leaderboard(board, "profit").table is not None


def test_metric_that_fails_on_the_rows_of_a_period_is_not_computed_there(library: Path) -> None:
    (library / "metrics.py").write_text(PLAIN + "    assert len(y_true) > 40\n    return np.mean(y_true != y_pred)\n")
    OWN_METRICS.use(("churn.metrics:mine",))
    ours, periods = make_predictions(), pd.Series(["2026-01"] * 35 + ["2026-02"] * 365)
    draws: dict[str, Any] = {"n_samples": 50, "confidence": 0.95, "seed": 1, "blocks": make_rows(400)}
    found = by_period.compute_by_period("mine", {"model": ours, "dummy": ours}, periods, **draws)
    assert found["rows"].tolist() == [35, 365]
    assert found[["model", "dummy", "low"]].isna().to_numpy().tolist() == [[True] * 3, [False] * 3]
    assert found["true"].notna().all()
    assert by_period.describe_uncomputed(found, "mine", "month") == (
        "mine is not computed in 1 month, on whose rows it fails or is undefined: 2026-01."
    )
    assert by_period.summarise_spread(found, "month") == {}
    assert "mine 0." in (evaluation_plots.plot_periods(found, "mine", unit="month", confidence=0.95).fact)


def make_predictions(positive: int = 1) -> Predictions:
    """Return predictions of 400 rows of two classes, a quarter of them of the class of interest."""
    random = np.random.default_rng(3)
    y_true = (random.random(400) < 0.25).astype(int)
    y_proba = np.clip(0.25 + 0.4 * (y_true - 0.25) + random.normal(0, 0.2, 400), 0.01, 0.99)
    table = np.column_stack([1 - y_proba, y_proba])
    return Predictions.from_proba(
        y_true if positive else 1 - y_true, table[:, :: 1 if positive else -1], ("a", "b"), positive
    )


@pytest.mark.parametrize("positive", [0, 1])
def test_intervals_and_paired_gain_are_those_of_the_drawn_rows(library: Path, positive: int) -> None:
    OWN_METRICS.use(("churn.metrics:profit",))
    ours = make_predictions(positive)
    everything = np.arange(400)
    assert metrics.compute_metric("profit", ours) == pytest.approx(compute_profit(ours, everything))
    weights = np.random.default_rng(0).multinomial(400, np.full(400, 1 / 400))
    drawn = np.repeat(everything, weights)
    assert metrics.make_score("profit", ours)(weights) == pytest.approx(compute_profit(ours, drawn))
    target = CANCER.model_copy(update={"column": "y", "positive": ours.classes[positive]})
    frame = pd.DataFrame({"y": [ours.classes[code] for code in ours.y_true]})
    dummies = baselines.predict_dummies(baselines.fit_dummies(frame, target=target), frame["y"], target=target)
    calls_all = np.mean(90 * (ours.y_true == positive) - 10)
    assert metrics.compute_metric("profit", dummies["profit"]) == pytest.approx(max(calls_all, 0))
    models = {"model": dict.fromkeys(dummies, ours), "dummy": dummies}
    draws: dict[str, Any] = {"n_samples": 200, "confidence": 0.95, "seed": 1, "blocks": make_rows(400)}
    found, gains = bootstrap.compare_models(models, **draws)
    assert list(found["model"])[-1] == "profit"
    assert found["model"]["profit"].low < found["model"]["profit"].value < found["model"]["profit"].high
    check = gate.check_dummy(
        "profit", gains["dummy"]["profit"], Gate(), confidence=0.95, blocks=draws["blocks"], n_classes=2
    )
    assert "over always predicting the constant that is best for it" in check.evidence
    assert metrics.find_perfect("profit", ours) == pytest.approx(80 * np.mean(ours.y_true == positive))


def test_metric_is_described_with_unit_direction_and_path(library: Path) -> None:
    OWN_METRICS.use(("churn.metrics:profit",))
    assert prose.describe_metric("profit") == (
        "profit per customer if all with a probability of 10 % or more are called; in EUR per customer; greater is "
        "better"
    )
    assert metrics.is_greater_better("profit")
    OWN_METRICS.use(("sklearn.metrics:mean_pinball_loss",))
    assert not metrics.is_greater_better("mean_pinball_loss")
    with pytest.raises(ParamsError, match="there is no metric 'profit': name its function in evaluation.metrics"):
        metrics.is_greater_better("profit")


def test_metrics_of_predicted_classes_are_computed_at_the_threshold(library: Path) -> None:
    OWN_METRICS.use(("churn.metrics:profit", "sklearn.metrics:recall_score"))
    ours, costs = make_predictions(), Costs(false_positive=1, false_negative=4)
    draws: dict[str, Any] = {"n_samples": 100, "confidence": 0.95, "seed": 1, "blocks": make_rows(400)}
    found = threshold.compare_thresholds(ours, 0.2, costs, **draws).set_index("metric")
    assert list(found.index) == ["accuracy", "balanced_accuracy", "f1", "recall_score", "cost per row"]
    is_hit = ours.y_true == 1
    assert found.loc["recall_score", "at 0.2"] == pytest.approx((ours.y_proba[is_hit, 1] >= 0.2).mean())
    assert found.loc["recall_score", "at 0.5"] == pytest.approx((ours.y_proba[is_hit, 1] > 0.5).mean())
    assert metrics.name_metric("recall_score", n_classes=2) == "recall_score at a threshold of 0.5"
    assert metrics.name_metric("profit", n_classes=2) == "profit", "it takes probabilities only"


def test_more_classes_come_as_labels_with_a_column_of_probabilities_each(library: Path) -> None:
    (library / "kinds.py").write_text(
        DECLARE
        + "@metric(better='greater')\ndef hits(y_true, y_pred, y_proba, classes, weight=2):\n"
        + "    assert classes.tolist() == ['a', 'b', 'c'] and y_proba.shape == (len(y_true), 3)\n"
        + "    return weight * np.mean(y_true == y_pred) + sum(y_true == 'c')\n"
    )
    OWN_METRICS.use(("churn.kinds:hits",))
    y_proba = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]])
    three = Predictions.from_proba(np.array([0, 1, 1, 2]), y_proba, ("a", "b", "c"))
    assert metrics.compute_metric("hits", three) == 2 * 0.75 + 1
    assert np.isnan(metrics.compute_metric("hits", three.take(np.array([1, 2])))), "one class only"
    metrics.check_own_metrics(three)


def test_best_constant_of_an_asymmetric_loss_is_its_quantile(library: Path) -> None:
    (library / "stock.py").write_text(
        "def shortage_loss(y_true, y_pred):\n    short = y_true - y_pred\n    return (short.clip(0) * 9 - short.clip(None, 0)).mean()\n"
    )
    OWN_METRICS.use(("churn.stock:shortage_loss",))
    frame = pd.DataFrame({"y": np.random.default_rng(0).gamma(2, 10, 2000)})
    target = DIABETES.model_copy(update={"column": "y"})
    constant = baselines.fit_dummies(frame, target=target)["shortage_loss"].constant_
    assert constant == pytest.approx(frame["y"].quantile(0.9), rel=0.03)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("    return y_pred - y_true\n", "lib/churn/bad.py:3: returns ndarray of shape (300,): return one number"),
        ("    return None\n", "returns NoneType: return one number"),
        ("    return float('nan')\n", "returns nan for 300 rows: return a finite number for all predictions, constant ones too"),
        ("    return np.inf\n", "returns inf for 300 rows"),
        ("    return 1 / (len(set(y_pred)) - 1)\n", "fails for 300 rows: ZeroDivisionError: division by zero, at lib/churn/bad.py:5"),
        ("    y_pred[0] = 1\n    return 1.0\n", "changes its input, at lib/churn/bad.py:5: work on a copy"),
        ("    return np.random.default_rng().random()\n", "for the same 300 rows: remove randomness"),
    ],
)  # fmt: skip
def test_metric_that_does_not_work_is_refused_before_the_folds(library: Path, source: str, message: str) -> None:
    (library / "bad.py").write_text(PLAIN + source)
    OWN_METRICS.use(("churn.bad:mine",))
    features, y_true, _ = load("diabetes")
    called: list[str] = []
    with pytest.raises(ModelError, match=f"^evaluation.metrics: churn.bad:mine: .*{re.escape(message)}"):
        compare(
            features, y_true, target=DIABETES, training=Training(models=("linear",), metric="mae"), seed=1,
            on_candidate=lambda name, result: called.append(name),
        )  # fmt: skip
    assert not called


def test_metric_that_fails_in_a_fold_fails_the_candidate_with_the_reason(library: Path) -> None:
    (library / "bad.py").write_text(PLAIN + "    assert len(set(y_pred)) < 30, 'too many values'\n    return 1.0\n")
    OWN_METRICS.use(("churn.bad:mine",))
    features, y_true, _ = load("diabetes")
    training = Training(models=("dummy", "linear"), metric="mae", folds=2)
    y_few = y_true.where(y_true.index >= 300, 100.0)
    with pytest.raises(
        ModelError, match=r"linear: ModelError: evaluation.metrics: churn.bad:mine: lib/churn/bad.py:3: "
    ):
        compare(features, y_few, target=DIABETES, training=training, seed=1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def mine(y_true, y_pred): ...\n", "lib/churn/bad.py:1: does not declare whether greater or smaller is better: declare it: @metric(better='greater')"),
        ("def mine(truth, y_pred): ...\n", "lib/churn/bad.py:1: it needs the argument 'truth': take any of y_true, y_pred, y_proba"),
        ("def mine(y_pred): ...\n", "lib/churn/bad.py:1: a metric takes y_true, and y_pred or y_proba or both, by these names"),
        (DECLARE + "@metric(better='more')\ndef mine(y_true, y_pred): ...\n", "lib/churn/bad.py:3: better is 'more': declare it"),
        ("mine = 3\n", "churn.bad:mine is of type int, not a function"),
        ("\n1 / 0\n", "lib/churn/bad.py:2: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_run_is_refused_with_both_lines_before_a_kernel_starts(library: Path, source: str, message: str) -> None:
    (library / "bad.py").write_text(source)
    write_params(library, '["churn.bad:mine"]')
    with pytest.raises(ParamsError, match=rf"^params/churn.yaml:\d+: evaluation.metrics: .*{re.escape(message)}"):
        check_own_code(load_params("churn"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('evaluation.metrics=["churn.metrics:profits"]', "-S evaluation.metrics: churn.metrics:profits: lib/churn/metrics.py has no 'profits': did you mean 'profit'?"),
        ('training.models=[dummy, "churn.modles:make"]', "-S training.models: churn.modles:make: there is no module churn.modles"),
        ('evaluation.checks={OWN01: "churn.metrics:metric"}', "-S evaluation.checks.OWN01: churn.metrics:metric"),
    ],
)  # fmt: skip
def test_setting_that_names_code_that_cannot_be_used_leaves_the_params_file_alone(
    library: Path, setting: str, message: str
) -> None:
    path = write_params(library, "[]")
    before = path.read_bytes()
    with pytest.raises(ParamsError, match=f"^{re.escape(message)}"):
        write_settings("churn", [setting], Progress())
    assert path.read_bytes() == before
    assert write_settings("churn", ['evaluation.metrics=["churn.metrics:profit"]'], Progress())
    assert path.read_bytes() != before


def write_params(library: Path, paths: str, metric: str = "mae") -> Path:
    """Write the params of a regression that names some metrics of its own."""
    text = (ROOT / "params" / "diabetes.yaml").read_text().replace("experiment: diabetes", "experiment: churn")
    text = text.replace("metric: mae", f"metric: {metric}").replace(
        "evaluation:\n", f"evaluation:\n  metrics: {paths}\n"
    )
    path = library.parents[1] / "params" / "churn.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("paths", "metric", "message"),
    [
        ('["churn.metrics:mae"]', "mae", r"params/churn.yaml:\d+: evaluation.metrics.0: a metric cannot be named 'mae'"),
        ('["churn.metrics:rows"]', "mae", r"params/churn.yaml:\d+: evaluation.metrics.0: a metric cannot be named 'rows': the name is taken: rename the function, e.g. profit"),
        ('["churn.a:profit", "churn.b:profit"]', "mae", r"params/churn.yaml:\d+: evaluation.metrics.1: .* the name is taken"),
        ('["churn.metrics:profit_std"]', "mae", r"a metric cannot be named 'profit_std': names in _std, _low and _high are reserved: rename"),
        ('["churn.metrics:Profit"]', "mae", r"a metric cannot be named 'Profit': small letters, digits and _ are allowed, a letter first: rename"),
        ('["churn.metrics.profit"]', "mae", "'churn.metrics.profit' is no import path"),
        ('["churn.metrics:profit"]', "profitt", r"params/churn.yaml:\d+: training.metric is 'profitt': did you mean 'profit'\?"),
        ("[]", "profit", r"params/churn.yaml:\d+: training.metric is 'profit': "),
    ],
)  # fmt: skip
def test_names_are_checked_with_the_params(library: Path, paths: str, metric: str, message: str) -> None:
    path = write_params(library, paths, metric)
    with pytest.raises(ParamsError, match=message):
        parse_file(path.read_text(), path)


def test_own_metric_may_be_the_one_that_ranks(library: Path) -> None:
    path = write_params(library, '["churn.metrics:profit"]', "profit")
    assert parse_file(path.read_text(), path).params.training.metric == "profit"


def test_a_weak_group_that_it_fails_on_is_named_without_it(library: Path) -> None:
    """It was tried on all rows, where it works; the group is still found, by the loss."""
    fails = PLAIN + "    assert len(y_true) > 40, 'too few rows'\n    return float(np.abs(y_true - y_pred).mean())\n"
    (library / "metrics.py").write_text(fails)
    OWN_METRICS.use(("churn.metrics:mine",))
    region = np.repeat(["north", "south"], [370, 30])
    y_true = np.random.default_rng(0).normal(0, 1, 400)
    ours = Predictions(y_true, y_true + np.where(region == "south", 3.0, 0.1) * np.tile([0.9, 1.1], 200))
    worst = slices.find_worst_slices(
        pd.DataFrame({"region": region}), ours, most=3, confidence=0.95, blocks=make_rows(400), metric="mine"
    )
    named = describe_groups(worst.to_dict("records"), "mine")
    assert named == ["region = south (mine not computable, elsewhere 0.100)"]
