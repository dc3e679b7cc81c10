"""How much columns contribute on average, and which rows are explained."""

import numpy as np
import pytest
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.explanation.contributions import FEWEST_ROWS, draw_explained_places, summarize_contributions
from labkit.model.explanation.shapley import Columns, explain_rows
from scipy import stats

RANDOM = np.random.default_rng(0)
ROWS = {"a": RANDOM.normal(size=100), "b": RANDOM.normal(size=100), "c": np.ones(100)}
BACKGROUND = {"a": np.array([0.0, 2.0]), "b": np.array([1.0, 1.0]), "c": np.ones(2)}


def predict(columns: Columns) -> np.ndarray:
    return 2 * columns["a"] - 5 * columns["b"]


def test_size_is_the_mean_absolute_contribution_over_the_rows() -> None:
    found = summarize_contributions(explain_rows(predict, ROWS, BACKGROUND), confidence=0.9, blocks=make_rows(100))
    assert found["column"].tolist() == ["b", "a", "c"]
    expected = [np.abs(5 * (ROWS["b"] - 1)).mean(), np.abs(2 * (ROWS["a"] - 1)).mean(), 0]
    np.testing.assert_allclose(found["size"], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["share"], np.array(expected) / sum(expected), atol=1e-12)
    # The t interval of a mean of independent numbers.
    reach = 1.6604 * np.abs(5 * (ROWS["b"] - 1)).std(ddof=1) / 10
    np.testing.assert_allclose([found["low"][0], found["high"][0]], expected[0] + np.array([-reach, reach]), rtol=1e-3)


def test_rows_of_one_day_count_less_than_independent_ones() -> None:
    repeated = {name: np.repeat(values[:20], 5) for name, values in ROWS.items()}
    explained = explain_rows(predict, repeated, BACKGROUND)
    alone = summarize_contributions(explained, confidence=0.95, blocks=make_rows(100))
    by_day = summarize_contributions(explained, confidence=0.95, blocks=Blocks(np.repeat(np.arange(20), 5), "day"))
    assert by_day["high"][0] - by_day["low"][0] > 2 * (alone["high"][0] - alone["low"][0])
    one_day = summarize_contributions(explained, confidence=0.95, blocks=Blocks(np.zeros(100, int), "day"))
    assert one_day[["low", "high"]].isna().all(axis=None)


def test_days_like_the_days_before_count_less_than_independent_ones() -> None:
    """The size of `a` is correlated from day to day, that of `b` is not: each column has runs of its own length."""
    random, days = np.random.default_rng(5), np.repeat(np.arange(120), 2)
    weather = np.zeros(120)
    for day in range(1, 120):
        weather[day] = 0.9 * weather[day - 1] + random.normal()
    rows = {"a": 30 + weather[days] + random.normal(0, 0.1, 240), "b": random.normal(0, 1, 240), "c": np.ones(240)}
    explained, blocks = explain_rows(predict, rows, BACKGROUND), Blocks(days, "day")
    found = summarize_contributions(explained, confidence=0.95, blocks=blocks).set_index("column")
    sizes = {"a": 2 * np.abs(rows["a"] - 1), "b": 5 * np.abs(rows["b"] - 1)}
    lengths = {name: blocks.fit_length(values).length for name, values in sizes.items()}
    assert lengths["a"] > 3
    assert lengths["b"] == 1
    for name, values in sizes.items():
        runs = Blocks(days, "day", lengths[name])
        reach = stats.t.ppf(0.975, runs.n_independent - 1) * runs.compute_error(values)
        assert found["high"][name] - found["size"][name] == pytest.approx(reach)


def test_classes_count_alike() -> None:
    def predict_classes(columns: Columns) -> np.ndarray:
        return np.column_stack([columns["a"], -columns["a"], 0 * columns["a"]])

    found = summarize_contributions(
        explain_rows(predict_classes, ROWS, BACKGROUND), confidence=0.9, blocks=make_rows(100)
    )
    assert found["size"][0] == pytest.approx(2 / 3 * np.abs(ROWS["a"] - 1).mean())


def test_model_without_contributions_has_no_shares() -> None:
    found = summarize_contributions(
        explain_rows(lambda columns: columns["a"] * 0 + 7, ROWS, BACKGROUND), confidence=0.9, blocks=make_rows(100)
    )
    assert found["size"].tolist() == [0, 0, 0]
    assert found["share"].isna().all()


def test_rows_are_drawn_once_each_and_few_of_many_columns() -> None:
    drawn = {"n_background": 20, "seed": 1}
    places = draw_explained_places(5000, most=200, n_columns=26, **drawn)
    assert len({*places.tolist()}) == 200
    assert places.tolist() == sorted(places.tolist())
    assert places.min() < 500 < 4500 < places.max() < 5000
    assert draw_explained_places(30, most=200, n_columns=26, **drawn).tolist() == list(range(30))
    assert len(draw_explained_places(5000, most=200, n_columns=5000, **drawn)) == FEWEST_ROWS
