"""Where a split by time is cut."""

import numpy as np
import pandas as pd
import pytest
from labkit.new.split_plan import choose_cuts


def make_times(n_days: int, rows_per_day: int = 3) -> pd.Series:
    """Return rows spread evenly over days, each at another time of its day."""
    start = pd.Timestamp("2024-01-01")
    return pd.Series([start + pd.Timedelta(days=n // rows_per_day, hours=n % 24) for n in range(n_days * rows_per_day)])


@pytest.mark.parametrize(
    ("n_days", "n_training", "n_judged"),
    [(365, 219, 73), (140, 84, 28), (100, 54, 28), (84, 42, 28), (83, 49, 17), (30, 18, 6)],
)
def test_holdout_spans_the_days_that_the_gate_asks_for_where_there_are_enough(
    n_days: int, n_training: int, n_judged: int
) -> None:
    (validation, holdout), found = choose_cuts(make_times(n_days))
    first = pd.Timestamp("2024-01-01")
    assert found == n_judged
    assert ((validation - first).days, (holdout - first).days) == (n_training, n_days - n_judged)


def test_days_without_rows_do_not_count() -> None:
    weekly = pd.Series(np.repeat(pd.date_range("2020-01-06", periods=100, freq="7D").to_numpy(), 2))
    (_, holdout), n_judged = choose_cuts(weekly)
    assert n_judged == 28
    assert holdout == pd.Timestamp("2020-01-06") + 72 * pd.Timedelta(days=7)
