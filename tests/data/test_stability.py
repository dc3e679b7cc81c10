"""Drift of columns between two periods of a table."""

import tracemalloc
from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.issues import count_repeated
from labkit.data.stability import MOST_RANKED, compute_drift, compute_stability, counts_time
from labkit.params.tables import Data, Target

TARGET = Target(column="y", task="regression")
DATA = Data.model_validate(
    {
        "tables": {"t": {"path": "t.csv", "times": ("at",)}},
        "target": TARGET.model_dump(),
        "time": {"predict_at": "at", "outcome_known_at": "at + hours(1)"},
        "split": {"method": "time", "validation_from": date(2024, 2, 1), "holdout_from": date(2024, 3, 1)},
    }
)


def make_table(n_rows: int, n_columns: int) -> pd.DataFrame:
    """Return random numbers over 90 days, all training and holdout but for February."""
    times = pd.date_range("2024-01-01", "2024-03-31", periods=n_rows, tz="UTC")
    values = np.random.default_rng(0).normal(size=(n_rows, n_columns))
    return pd.DataFrame({f"x{number}": column for number, column in enumerate(values.T)}).assign(predict_at=times)


def test_index_of_categories_is_that_of_their_shares() -> None:
    before, after = pd.Series(["a", "a", "b", None]), pd.Series(["a", "b", "b", "b"])
    shares = np.array([[0.5, 0.25, 0.25], [0.25, 0.75, 1e-4]])
    expected = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert compute_stability(before, after) == pytest.approx(expected)
    assert compute_stability(before.fillna("missing"), after) == pytest.approx(expected)
    assert compute_stability(pd.Series([1, 1, 2]), pd.Series([2, 1, 1])) == 0


def test_column_that_counts_time_is_found_among_very_many_rows() -> None:
    n_rows = 3 * MOST_RANKED
    times = pd.Series(pd.date_range("2024-01-01", periods=n_rows, freq="s"))
    noise = pd.Series(np.random.default_rng(0).normal(size=n_rows))
    assert counts_time(pd.Series(range(n_rows)) + 100 * noise, times)
    assert not counts_time(noise, times)


@pytest.mark.parametrize(
    "compute",
    [lambda table: compute_drift(table, DATA, [name for name in table if name != "predict_at"]), count_repeated],
    ids=["drift", "repeated rows"],
)
def test_wide_table_is_not_copied(compute: Callable[[pd.DataFrame], object]) -> None:
    table = make_table(20_000, 60)
    tracemalloc.start()
    try:
        compute(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < table.memory_usage().sum() / 2
