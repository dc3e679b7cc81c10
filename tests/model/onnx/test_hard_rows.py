"""Rows that a request may bring, for proving that a graph predicts as its pipeline does."""

import numpy as np
import pandas as pd
import pytest
from labkit.model.onnx.hard_rows import EXTREMES, MOST_EXTREMES, NEVER_SEEN, make_extreme_rows, make_spoilt_rows

from tests.model.tables import make_table

KINDS = {"a b": "number", "a_b": "number", "größe": "category", 'text, "x"': "category", "flag": "boolean"}


def make_times(n_rows: int = 50) -> pd.DataFrame:
    """Return times without and with a zone, in seconds and in nanoseconds."""
    times = pd.Series(pd.date_range("2024-01-01", periods=n_rows, freq="h"))
    return pd.DataFrame({"plain": times.dt.as_unit("s"), "utc": times.dt.tz_localize("UTC").dt.as_unit("ns")})


def test_values_are_taken_away_and_replaced() -> None:
    hard = make_spoilt_rows(make_table(), KINDS, n_rows=1000, seed=0)
    assert len(hard) == 1000
    assert (hard["größe"] == NEVER_SEEN).mean() == pytest.approx(0.1, abs=0.03)
    assert hard["a_b"].isna().mean() == pytest.approx(0.1, abs=0.03)


def test_every_extreme_value_of_every_column_stands_in_a_row_of_its_own() -> None:
    frame = make_table()
    hard = make_extreme_rows(frame, KINDS, seed=0)
    n_single = sum(len(EXTREMES[kind]) for kind in KINDS.values())
    for name, kind in KINDS.items():
        found = set(map(repr, hard[name].head(n_single)))
        assert {repr(value) for value in EXTREMES[kind]} <= found
    usual = frame["a b"].abs().max()
    assert ((hard["a b"].abs().head(n_single) > usual) & (hard["a_b"].abs().head(n_single) > 1e6)).sum() == 0
    together = hard.tail(len(hard) - n_single)
    assert ((together["a b"].abs() > usual) & (together["a_b"].abs() > 1e6)).sum() > 10
    pd.testing.assert_frame_equal(hard, make_extreme_rows(frame, KINDS, seed=0))


@pytest.mark.parametrize("number", [2**24 + 1, -(2**24) - 1, 2**53 + 2, 1e30, -3e38, 1e39, 1e-45, 5e-324, np.inf])
def test_numbers_are_beyond_what_single_and_double_precision_hold(number: float) -> None:
    assert number in make_extreme_rows(make_table(), KINDS, seed=0)["a b"].to_numpy()


def test_negative_zero_and_empty_and_long_strings_are_among_them() -> None:
    hard = make_extreme_rows(make_table(), KINDS, seed=0)
    zeros = hard["a b"][hard["a b"] == 0]
    assert set(np.signbit(zeros)) == {False, True}
    assert "" in set(hard["größe"])
    assert hard["größe"].dropna().str.len().max() == 100_000


def test_times_reach_from_the_first_year_to_the_last() -> None:
    hard = make_extreme_rows(make_times(), {"plain": "time", "utc": "time"}, seed=0)
    for name in ("plain", "utc"):
        assert (hard[name].min().year, hard[name].max().year) == (1, 9999)
    assert str(hard["utc"].dt.tz) == "UTC"


def test_wide_tables_have_a_limited_number_of_rows() -> None:
    frame = pd.DataFrame(np.zeros((30, 300)), columns=[f"x{number}" for number in range(300)])
    hard = make_extreme_rows(frame, dict.fromkeys(frame, "number"), seed=0)
    assert len(hard) == MOST_EXTREMES + len(EXTREMES["number"])
