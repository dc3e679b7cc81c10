"""Models that take long to predict are explained by fewer background rows, others by all that are asked for."""

from typing import Any

import numpy as np
import pytest
from labkit.model.estimators.calibrated import Calibrated
from labkit.model.explanation.explaining_time import (
    NODE,
    count_affordable_rows,
    estimate_prediction,
    list_inner_estimators,
)
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.model.tables import CASES, make_small_model

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60_000, 50))
Y = (X[:, 0] + RANDOM.normal(size=len(X)) > 0).astype(int)


def fit_neighbours(n_rows: int) -> Any:
    return make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="brute")).fit(X[:n_rows], Y[:n_rows])


@pytest.mark.parametrize(("n_rows", "expected"), [(1000, 20), (15_000, 20), (60_000, 5)])
def test_neighbours_of_many_rows_are_explained_by_fewer(n_rows: int, expected: int) -> None:
    assert count_affordable_rows(fit_neighbours(n_rows), 26, 20) == expected


def test_at_least_two_rows_are_used_unless_fewer_are_asked_for() -> None:
    model = fit_neighbours(60_000)
    assert [count_affordable_rows(model, 400, n_rows) for n_rows in (20, 2, 1, 0)] == [2, 2, 1, 0]


def test_estimate_counts_the_nodes_on_the_way_of_each_row() -> None:
    tree = DecisionTreeClassifier(max_depth=6).fit(X[:5000], Y[:5000])
    n_visited = tree.decision_path(X[:5000].astype("float32")).sum() / 5000
    assert estimate_prediction(tree) == pytest.approx(NODE * n_visited, rel=0.001)
    forest = ExtraTreesClassifier(50, max_depth=6, random_state=0).fit(X[:5000], Y[:5000])
    n_visited = sum(one.decision_path(X[:5000].astype("float32")).sum() for one in forest.estimators_) / 5000
    assert estimate_prediction(forest) == pytest.approx(NODE * n_visited, rel=0.02)
    assert estimate_prediction(Calibrated(forest)) == estimate_prediction(forest)


def test_parts_of_a_blend_count_together() -> None:
    rows, true = X[:2000], Y[:2000]
    boosted = GradientBoostingClassifier(n_estimators=5)
    scaled = make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="brute"))
    blend = VotingClassifier([("a", boosted), ("b", scaled), ("c", LogisticRegression())], voting="soft").fit(
        rows, true
    )
    alone = [estimate_prediction(one) for one in blend.estimators_]
    assert alone[0] > 5 * NODE
    assert alone[1] == 2000 * (1 + 0.02 * 50)
    assert alone[2] == 0
    assert estimate_prediction(blend) == pytest.approx(sum(alone))
    assert sum(isinstance(one, KNeighborsClassifier) for one in list_inner_estimators(blend)) == 1


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_kind_of_model_on_few_rows_keeps_its_background(name: str, task: str) -> None:
    assert count_affordable_rows(make_small_model(name, task), 5, 20) == 20
