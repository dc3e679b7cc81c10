"""Targets that follow from other columns are written as a formula; targets that are only foretold are not."""

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.formula import find_formula
from labkit.features.expressions import compute

N = 200
RANDOM = np.random.default_rng(0)
PARTS = pd.DataFrame(RANDOM.normal(10, 3, size=(N, 5)), columns=["a", "b", "c", "d", "other name"]).round(2)
PRICES = pd.DataFrame(
    {
        "price": RANDOM.uniform(1, 50, N).round(2),
        "quantity": RANDOM.integers(1, 20, N),
        "age": RANDOM.integers(18, 80, N),
    }
)
WALKS = pd.DataFrame(RANDOM.normal(size=(N, 8)).cumsum(axis=0) + np.arange(N)[:, None], columns=list("abcdefgh"))
HUGE = pd.DataFrame(np.exp(RANDOM.normal(14, 2.5, size=(N, 3))), columns=list("abc"))


@pytest.mark.parametrize(
    ("frame", "target", "expected"),
    [
        (PARTS, PARTS["a"] + PARTS["b"] + PARTS["c"], "a + b + c"),
        (PARTS, PARTS["a"] - PARTS["other name"], "a - col('other name')"),
        (PARTS, (0.3 * PARTS["a"] + 0.7 * PARTS["b"]).round(2), "0.3 * a + 0.7 * b"),
        (PARTS, 100 - PARTS["a"] - 2 * PARTS["d"], "100 - a - 2 * d"),
        (PARTS.mask(RANDOM.random((N, 5)) < 0.1), PARTS["a"] + PARTS["b"], "a + b"),
        (PRICES, (1.19 * PRICES["price"] * PRICES["quantity"]).round(2), "1.19 * price * quantity"),
        (PRICES, PRICES["price"] / PRICES["quantity"], "price / quantity"),
    ],
)
def test_formula_is_found_and_can_be_computed(frame: pd.DataFrame, target: pd.Series, expected: str) -> None:
    found = find_formula(frame.assign(y=target), list(frame.columns), "y")
    assert found is not None
    assert found.expression == expected
    assert found.explained > 0.9999
    computed = compute(expected, {name: frame[name].to_numpy() for name in found.columns})
    is_there = ~np.isnan(computed)
    assert 1 - np.var(computed[is_there] - target[is_there]) / np.var(target[is_there]) == pytest.approx(
        found.explained, abs=1e-6
    )


@pytest.mark.parametrize(
    ("frame", "target"),
    [
        (PARTS, PARTS["a"] + PARTS["b"] + RANDOM.normal(0, 0.2, N)),
        (PARTS, pd.Series(RANDOM.normal(size=N))),
        (PARTS, PARTS["a"] * 2),  # one column alone is a copy, and no formula
        (PARTS.head(15), (PARTS["a"] + PARTS["b"]).head(15)),
        (PRICES, PRICES["price"] * PRICES["quantity"] * RANDOM.normal(1, 0.05, N)),
        (WALKS, pd.Series(RANDOM.normal(size=N).cumsum() + np.arange(N))),  # a trend is no formula
        (HUGE, HUGE["a"] * RANDOM.normal(1.01, 0.02, N) + HUGE["b"] * RANDOM.normal(1, 0.02, N)),
    ],
)
def test_strong_correlation_is_no_formula(frame: pd.DataFrame, target: pd.Series) -> None:
    assert find_formula(frame.assign(y=target), list(frame.columns), "y") is None


@pytest.mark.parametrize("n_rows", [60, 400])
def test_sum_is_found_among_many_columns_and_noise_is_no_formula(n_rows: int) -> None:
    wide = pd.DataFrame(RANDOM.normal(size=(n_rows, 500)), columns=[f"x{place}" for place in range(500)])
    names = list(wide.columns)
    assert find_formula(wide.assign(y=RANDOM.normal(size=n_rows)), names, "y") is None
    found = find_formula(wide.assign(y=wide["x3"] + wide["x77"]), names, "y")
    assert found is not None
    assert found.expression == "x3 + x77"
