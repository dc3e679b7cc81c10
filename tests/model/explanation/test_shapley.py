"""Contributions add up to the prediction and are the Shapley values, for every model."""

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.table_columns import take_columns
from labkit.model.explanation.background import choose_background
from labkit.model.explanation.shapley import FEWEST_BACKGROUND, MOST_PREDICTED, Columns, explain_row

from tests.model.tables import CASES, make_small_model, make_table

ROWS = make_table()


def make_predict(name: str, task: str) -> Any:
    model = make_small_model(name, task)
    return model.predict if task == "regression" else model.predict_proba


@pytest.mark.parametrize(("name", "task"), CASES)
def test_contributions_add_up_to_the_prediction(name: str, task: str) -> None:
    predict = make_predict(name, task)
    columns = take_columns(ROWS, dict.fromkeys(ROWS))
    row = {name: values[[3]] for name, values in columns.items()}
    background = {name: values[:5] for name, values in columns.items()}
    found = explain_row(lambda mixed: predict(pd.DataFrame(mixed)), row, background)
    expected = np.atleast_1d(predict(ROWS.iloc[[3]])[0])
    np.testing.assert_allclose(found.prediction, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.base, np.mean(predict(ROWS[:5]), axis=0).ravel(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.base + found.contributions.sum(axis=0), found.prediction, rtol=1e-9, atol=1e-9)


def compute_exactly(predict: Any, row: Columns, background: Columns) -> list[float]:
    """Return Shapley values by all orders."""
    names, n_rows = list(background), len(next(iter(background.values())))
    totals = dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        mixed = {name: values.copy() for name, values in background.items()}
        before = predict(mixed).mean()
        for name in order:
            mixed[name] = np.repeat(row[name], n_rows)
            after = predict(mixed).mean()
            totals[name] += (after - before) / len(orders)
            before = after
    return list(totals.values())


def test_contributions_are_those_of_all_orders_within_their_errors() -> None:
    random = np.random.default_rng(1)
    background = {name: random.normal(size=400) for name in "abcd"}
    row = {name: np.array([place + 1.0]) for place, name in enumerate("abcd")}

    def predict(columns: Columns) -> np.ndarray:
        return columns["a"] * columns["b"] * columns["c"] + columns["a"]

    found = explain_row(predict, row, background)
    exact = compute_exactly(predict, row, background)
    assert found.contributions[3, 0] == 0
    assert (abs(found.contributions[:, 0] - exact) <= 4 * found.errors[:, 0]).all()
    assert found.errors[0, 0] < 0.5
    assert (found.n_background, found.n_orders) == (400, 800)


def test_many_columns_are_explained_by_fewer_background_rows() -> None:
    n_predicted = []

    def predict(columns: Columns) -> np.ndarray:
        n_predicted.append(len(columns["0"]))
        return sum(columns.values(), np.zeros(n_predicted[-1]))

    for n_columns in (100, 5000):
        background = {str(place): np.arange(20.0) for place in range(n_columns)}
        found = explain_row(predict, {name: np.array([1.0]) for name in background}, background)
        np.testing.assert_allclose(found.base + found.contributions.sum(axis=0), found.prediction)
        assert found.n_background < 20
    assert n_predicted[0] <= MOST_PREDICTED
    assert found.n_background == FEWEST_BACKGROUND


def test_one_background_row_has_no_errors() -> None:
    found = explain_row(lambda columns: columns["a"] * 2, {"a": np.array([3.0])}, {"a": np.array([1.0])})
    assert found.contributions.tolist() == [[4.0]]
    assert np.isnan(found.errors).all()


def test_background_is_spread_evenly_over_the_predictions() -> None:
    rows = pd.DataFrame({"a": np.random.default_rng(0).permutation(1000)})
    found = choose_background(rows, lambda frame: np.column_stack([frame["a"] * 0, frame["a"]]), n_rows=10, seed=0)
    assert found["a"].tolist() == [50, 150, 250, 350, 450, 550, 650, 750, 850, 950]
    assert len(choose_background(rows[:3], lambda frame: frame["a"], n_rows=10, seed=0)) == 3
    assert choose_background(rows, lambda frame: frame["a"], n_rows=0, seed=0).empty
