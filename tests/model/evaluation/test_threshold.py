"""Thresholds against brute force, and what they cost."""

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import set_threads
from labkit.model.evaluation import threshold
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.metrics import compute_metric
from labkit.model.evaluation.predictions import Predictions
from labkit.params.evaluation import Costs
from labkit.params.tables import Target
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

DRAWS = {"n_samples": 200, "confidence": 0.95, "seed": 0, "blocks": make_rows(4000)}


def make_two_classes(n_rows: int = 4000, *, power: float = 1.0, seed: int = 0, positive: int = 1) -> Predictions:
    """Return predictions that are calibrated with power 1, and too low with a larger one."""
    random = np.random.default_rng(seed)
    probability = random.beta(1, 2, n_rows)
    y_true = (random.random(n_rows) < probability).astype(int)
    reported = probability**power
    both = np.column_stack([1 - reported, reported])
    return (
        Predictions.from_proba(y_true, both, ("no", "yes"))
        if positive
        else Predictions.from_proba(1 - y_true, both[:, ::-1], ("yes", "no"), 0)
    )


@pytest.mark.parametrize("positive", [0, 1])
def test_cost_curve_is_the_cost_of_each_threshold(positive: int) -> None:
    predictions, costs = make_two_classes(60, positive=positive), Costs(false_positive=2, false_negative=3)
    curve = threshold.compute_cost_curve(predictions, costs)
    assert len(curve) == 61
    for level, cost in curve.itertuples(index=False):
        assert cost == pytest.approx(threshold.compute_costs(predictions, level, costs).mean())


def test_costs_by_hand() -> None:
    predictions = Predictions.from_proba(
        np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8]]), ("n", "y")
    )
    costs = Costs(false_positive=1, false_negative=5)
    assert threshold.compute_costs(predictions, 0.5, costs).tolist() == [0, 1, 5, 0]
    assert threshold.compute_costs(predictions, 0.4, costs).tolist() == [0, 1, 0, 0]
    assert 0.1 < threshold.choose_threshold(predictions, costs) <= 0.4


@pytest.mark.parametrize(("yes", "no"), [(1.0, 4.0), (1.0, 1.0), (3.0, 1.0)])
def test_calibrated_probabilities_need_no_search(yes: float, no: float) -> None:
    costs = Costs(false_positive=yes, false_negative=no)
    found = threshold.choose_threshold(make_two_classes(60_000), costs)
    assert found == pytest.approx(threshold.compute_fair_threshold(costs), abs=0.05)


def test_probabilities_that_are_too_low_are_corrected() -> None:
    costs = Costs(false_positive=1, false_negative=4)
    found = threshold.choose_threshold(make_two_classes(60_000, power=3), costs)
    assert found == pytest.approx(0.2**3, abs=0.01)
    judged = threshold.evaluate_threshold(make_two_classes(power=3, seed=1), found, costs, **DRAWS)  # type: ignore[arg-type]
    plain = threshold.evaluate_threshold(make_two_classes(power=3, seed=1), 0.2, costs, **DRAWS)  # type: ignore[arg-type]
    assert judged.cost.high < plain.cost.low
    assert judged.saving.low > 0


def test_no_threshold_separates_what_cannot_be_separated() -> None:
    nothing = Predictions.from_proba(np.array([0, 1] * 50), np.tile([0.5, 0.5], (100, 1)), ("no", "yes"))
    always = threshold.choose_threshold(nothing, Costs(false_positive=1, false_negative=9))
    never = threshold.choose_threshold(nothing, Costs(false_positive=9, false_negative=1))
    assert always <= 0.5 < never
    found = threshold.evaluate_threshold(
        nothing, never, Costs(false_positive=9, false_negative=1), **{**DRAWS, "blocks": make_rows(100)}
    )  # type: ignore[arg-type]
    assert (found.acted, found.precision, found.recall, found.saving.value) == (0, 0, 0, 0)
    assert (found.always_yes, found.always_no) == (4.5, 0.5)


def test_metrics_of_the_threshold_in_force_stand_beside_those_at_one_half() -> None:
    costs, predictions = Costs(false_positive=1, false_negative=4), make_two_classes(power=3, seed=1)
    level = 0.2**3
    found = threshold.compare_thresholds(predictions, level, costs, **DRAWS).set_index("metric")
    assert list(found.index) == ["accuracy", "balanced_accuracy", "f1", "cost per row"]
    acts = predictions.y_proba[:, 1] >= level
    assert found.loc["accuracy", "at 0.008"] == pytest.approx((acts == predictions.y_true).mean())
    assert found.loc["f1", "at 0.5"] == pytest.approx(compute_metric("f1", predictions))
    assert found.loc["f1", "at 0.008"] > found.loc["f1", "at 0.5"]
    assert found.loc["cost per row", "high, at 0.008"] < found.loc["cost per row", "low, at 0.5"]


class Memory(ClassifierMixin, BaseEstimator):
    """A model that knows by heart what it was shown."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Memory":
        self.classes_ = np.array([0, 1])
        self.known_ = dict(zip(X["x"], y, strict=True))
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        probability = np.array([self.known_.get(value, 0.5) for value in X["x"]])
        return np.column_stack([1 - probability, probability])


def test_validation_rows_are_predicted_without_having_been_seen() -> None:
    frame = pd.DataFrame({"x": np.arange(40.0), "y": [0, 1] * 20})
    row_features = RowFeatures().fit(frame[["x"]])
    model = Pipeline([("row_features", row_features), ("estimator", Memory().fit(frame[["x"]], frame["y"]))])
    target = Target(column="y", task="classification")
    apart = threshold.fit_apart(model, frame.iloc[:20], target=target)
    assert (apart.predict_proba(frame.iloc[20:])[:, 1] == 0.5).all()
    assert set(apart.predict_proba(frame.iloc[:20])[:, 1]) == {0, 1}
    assert len(model[-1].known_) == 40


@pytest.mark.filterwarnings("error")
def test_models_of_one_thread_are_fitted_without_a_warning_about_threads() -> None:
    frame = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40) % 4 // 2})
    target = Target(column="y", task="classification")
    members = [
        ("linear", LogisticRegression()),
        ("forest", RandomForestClassifier(5, n_jobs=2)),
        ("boosted", LGBMClassifier(n_estimators=2, verbosity=-1)),
    ]
    blend = VotingClassifier(members, voting="soft", flatten_transform=False).fit(frame[["x"]], frame["y"])
    model = Pipeline([("row_features", RowFeatures().fit(frame[["x"]])), ("estimator", blend)])
    assert len(threshold.fit_apart(model, frame.iloc[:20], target=target).predict(frame.iloc[20:])) == 20
    set_threads(blend, 1)
    assert [member.n_jobs for member in blend.estimators_] == [None, 1, 1]


def test_scores_that_a_threshold_was_chosen_on_are_compared_with_those_it_is_applied_to() -> None:
    chosen_on, apart, ours = make_two_classes(seed=1), make_two_classes(), make_two_classes(power=2.0)
    costs = Costs(false_positive=1, false_negative=4)
    found = threshold.compare_scores(chosen_on, apart, ours, threshold=0.2, costs=costs)
    assert found["rows"].tolist() == ["validation", "holdout", "holdout"]
    assert found["mean probability"].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 6], abs=0.02), "means of a beta(1, 2)"
    assert found["flagged"].tolist() == [(one.y_proba[:, 1] >= 0.2).mean() for one in (chosen_on, apart, ours)]
    assert found.loc[2, "cost per row"] == threshold.compute_costs(ours, 0.2, costs).mean()
    assert found.loc[2, "true share"] == ours.y_true.mean()
