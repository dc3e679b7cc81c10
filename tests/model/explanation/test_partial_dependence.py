"""Mean predictions over the values of a column, with the uncertainty of the rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.table_columns import find_column_kind, take_columns
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.explanation.partial_dependence import (
    MOST_CATEGORIES,
    MOST_NUMBERS,
    choose_values,
    compute_dependence,
    compute_dependences,
)
from labkit.model.explanation.shapley import Columns
from scipy import stats

from tests.model.tables import CASES, make_small_model, make_table

RANDOM = np.random.default_rng(0)
ROWS = {"a": RANDOM.normal(size=50), "b": RANDOM.normal(3, 1, 50)}


def compute(predict: Any, rows: Columns, name: str, values: Any) -> pd.DataFrame:
    return compute_dependence(predict, rows, name, np.asarray(values), confidence=0.95, blocks=make_rows(50))


def test_mean_is_that_of_rows_that_differ_in_nothing_else() -> None:
    found = compute(lambda columns: columns["a"] * columns["b"], ROWS, "a", [-1.0, 0.0, 2.0])
    np.testing.assert_allclose(found["mean"], np.array([-1, 0, 2]) * ROWS["b"].mean(), atol=1e-12)
    # The interval is that of the paired difference from the rows as they are.
    changes = (2 - ROWS["a"]) * ROWS["b"]
    reach = 2.0096 * changes.std(ddof=1) / np.sqrt(50)
    assert found["high"][2] - found["mean"][2] == pytest.approx(reach, rel=1e-3)
    assert (found["low"] < found["mean"]).all()


def test_days_like_the_days_before_count_less_than_independent_ones() -> None:
    random, days = np.random.default_rng(5), np.repeat(np.arange(120), 2)
    weather = np.zeros(120)
    for day in range(1, 120):
        weather[day] = 0.9 * weather[day - 1] + random.normal()
    rows = {"a": weather[days] + random.normal(0, 0.1, 240), "b": random.normal(0, 1, 240)}
    blocks, options = Blocks(days, "day"), {"confidence": 0.95, "blocks": Blocks(days, "day")}
    for name, is_longer in (("a", True), ("b", False)):
        found = compute_dependence(lambda columns: columns["a"] + columns["b"], rows, name, np.array([2.0]), **options)
        runs = blocks.fit_length(2 - rows[name])
        assert (runs.length > 3, runs.length == 1) == (is_longer, not is_longer)
        reach = stats.t.ppf(0.975, runs.n_independent - 1) * runs.compute_error(2 - rows[name])
        assert found["high"][0] - found["mean"][0] == pytest.approx(reach)


def test_each_output_has_its_own_curve() -> None:
    found = compute(lambda columns: np.column_stack([columns["a"], 1 - columns["a"]]), ROWS, "a", [0.25, 0.5])
    assert found[["value", "output", "mean"]].to_numpy().tolist() == [
        [0.25, 0, 0.25],
        [0.25, 1, 0.75],
        [0.5, 0, 0.5],
        [0.5, 1, 0.5],
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Series([True, False, False]), [False, True]),
        (pd.Series([1, 2, 2, None], dtype="Int64"), [1, 2]),
        (pd.Series([np.nan, np.inf, 4.0]), [4]),
        (pd.Series(["x", None, "y", "x"]), ["x", "y"]),
        (pd.Series(["x", "y", "x"], dtype="category"), ["x", "y"]),
        (pd.Series(pd.date_range("2024-01-01", periods=3)), []),
        (pd.Series([np.nan]), []),
    ],
)
def test_values_by_kind_of_column(values: pd.Series, expected: list[Any]) -> None:
    assert choose_values(values, find_column_kind(values)).tolist() == expected


def test_many_values_are_limited() -> None:
    numbers = choose_values(pd.Series(np.arange(10_000.0)), "number")
    assert len(numbers) == MOST_NUMBERS
    assert (numbers[0], numbers[-1]) == (pytest.approx(200, abs=1), pytest.approx(9799, abs=1))
    assert len(choose_values(pd.Series([f"c{place % 30}" for place in range(600)]), "category")) == MOST_CATEGORIES
    assert not len(choose_values(pd.Series([f"text {place}" for place in range(600)]), "category"))


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[0] in ("linear", "hist_gradient_boosting")])
def test_every_kind_of_column_of_a_model(name: str, task: str) -> None:
    table, model = make_table(), make_small_model(name, task)
    rows = take_columns(table, dict.fromkeys(table))
    values = {one: choose_values(table[one], find_column_kind(table[one])) for one in table}

    def predict(columns: Columns) -> np.ndarray:
        frame = pd.DataFrame(columns)
        return np.asarray(model.predict(frame) if task == "regression" else model.predict_proba(frame))

    found = compute_dependences(predict, rows, values, most=5, confidence=0.9, blocks=make_rows(len(table)))
    assert [*found] == [*table]
    one = found["größe"]
    expected = np.asarray(predict(take_columns(table.assign(größe="rot"), dict.fromkeys(table)))).reshape(
        len(table), -1
    )
    np.testing.assert_allclose(one.loc[one["value"] == "rot", "mean"], expected.mean(axis=0), rtol=1e-9)
    assert len(compute_dependences(predict, rows, values, most=2, confidence=0.9, blocks=make_rows(len(table)))) == 2
