"""The recipe of a model is fitted again on other rows, as if it had been chosen for them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import ModelError
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.calibrated import Calibrated
from labkit.model.estimators.preprocessing import make_preparation
from labkit.model.evaluation.row_hashes import ATTRIBUTE, count_shared, hash_rows
from labkit.model.training.comparison import fit_model
from labkit.model.training.refit import refit_model, refit_on_all_rows
from labkit.params.tables import Target
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

TARGET = Target(column="y", task="regression")
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 2)), columns=["a", "b"])
ROWS["city"] = ["red" if n < 90 else "blue" for n in range(120)]
ROWS["y"] = ROWS["a"] + ROWS["b"] / 2


def fit(rows: pd.DataFrame, name: str = "linear") -> Any:
    features = RowFeatures(fewest_rows=5).fit(rows.drop(columns="y"))
    return fit_model(name, features, [(features.transform(rows), rows["y"])], target=TARGET, seed=0)


def test_refit_is_the_same_as_fitting_the_recipe_on_the_rows() -> None:
    judged, expected = fit(ROWS[:90]), fit(ROWS)
    before = judged.predict(ROWS)
    refitted = refit_model(judged, ROWS, target=TARGET, seed=0)
    np.testing.assert_array_equal(refitted.predict(ROWS), expected.predict(ROWS))
    np.testing.assert_array_equal(judged.predict(ROWS), before)
    assert refitted[0].categories_ == {"city": ["blue", "red"]}, "what the later rows brought"
    holdout = hash_rows(ROWS["y"][90:], TARGET)
    assert [count_shared(getattr(one, ATTRIBUTE), holdout) for one in (judged, refitted)] == [0, 30]


def make_classes(n_rows: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.normal(size=(n_rows, 2)), columns=["a", "b"])
    return rows.assign(y=np.where(rows["a"] + random.normal(size=n_rows) > 0, "yes", "no"))


CLASSES = Target(column="y", task="classification", positive="yes")


def fit_classes(rows: pd.DataFrame, estimator: Any) -> Any:
    features = RowFeatures(fewest_rows=5).fit(rows.drop(columns="y"))
    candidate = Pipeline(
        [("preparation", make_preparation(features.outputs_, is_scaled=False)), ("estimator", estimator)]
    )
    return fit_model(candidate, features, [(features.transform(rows), rows["y"])], target=CLASSES, seed=0)


def refit(model: Any, *parts: pd.DataFrame, target: Target = CLASSES) -> Any:
    return refit_on_all_rows(model, parts, target=target, seed=0)


def test_more_rows_do_not_turn_early_stopping_on() -> None:
    """scikit-learn stops early on more than 10,000 rows: another recipe."""
    rows = make_classes(10_100)
    judged = fit_classes(rows[:9_900], HistGradientBoostingClassifier(max_iter=30, random_state=0))
    refitted = refit(judged, rows[:9_900], rows[9_900:])[-1]
    assert (judged[-1].do_early_stopping_, refitted.do_early_stopping_, refitted.n_iter_) == (False, False, 30)


@pytest.mark.parametrize(
    ("estimator", "found"),
    [
        (HistGradientBoostingClassifier(early_stopping=True, n_iter_no_change=2, random_state=0), "n_iter_"),
        (GradientBoostingClassifier(n_estimators=80, n_iter_no_change=2, random_state=0), "n_estimators_"),
    ],
)
@pytest.mark.parametrize("is_within", [False, True])
def test_what_stopped_early_keeps_its_number_of_iterations(estimator: Any, found: str, is_within: bool) -> None:
    rows = make_classes(800)
    wrapped = Calibrated(clone(estimator), 0.5, 0.1) if is_within else clone(estimator)
    judged = fit_classes(rows[:600], wrapped)
    refitted = refit(judged, rows[:600], rows[600:])
    inner = [one[-1].estimator if is_within else one[-1] for one in (judged, refitted)]
    stopped, again = (int(getattr(one, found)) for one in inner)
    assert 2 < stopped == again < 80
    if is_within:
        assert (refitted[-1].slope, refitted[-1].intercept) == (0.5, 0.1)


def test_members_of_a_blend_keep_their_iterations_too() -> None:
    rows = make_classes(800)
    member = HistGradientBoostingClassifier(early_stopping=True, n_iter_no_change=2, random_state=0)
    blend = VotingClassifier(
        [("trees", member), ("line", LogisticRegression())], voting="soft", flatten_transform=False
    )
    judged = fit_classes(rows[:600], blend)
    refitted = refit(judged, rows[:600], rows[600:])
    assert refitted[-1].estimators_[0].n_iter_ == judged[-1].estimators_[0].n_iter_ < 100


class StopsEarly(LogisticRegression):
    """Has a validation set of its own, which fits no more than 600 rows."""

    def fit(self, X: Any, y: Any) -> "StopsEarly":
        if len(X) > 600:
            raise ValueError("the validation set is for 600 rows at most")
        return super().fit(X, y)


def test_recipe_that_cannot_be_fitted_again_is_one_clear_error() -> None:
    rows = make_classes(800)
    judged = fit_classes(rows[:600], StopsEarly())
    with pytest.raises(ModelError) as raised:
        refit(judged, rows[:600], rows[600:])
    assert str(raised.value).startswith("StopsEarly cannot be refitted on all rows (deploy.refit): ")
    assert "the validation set is for 600 rows at most" in str(raised.value)
    assert str(raised.value).endswith("; correct it, or set deploy.refit: false to publish the evaluated model itself")


def test_classes_that_were_not_evaluated_are_refused() -> None:
    rows = make_classes(800)
    judged = fit_classes(rows[:600], LogisticRegression())
    with pytest.raises(ModelError, match=r"the holdout has classes that training lacks: 'maybe'; choose the days of "):
        refit(judged, rows[:600], rows[600:].assign(y="maybe"))


def test_other_inputs_are_refused() -> None:
    judged = fit(ROWS[:90])
    with pytest.raises(ModelError, match=r"take other inputs: new \(no input before, number now\); declare their"):
        refit(judged, ROWS[:90], ROWS[90:].assign(new=1.0), target=TARGET)
