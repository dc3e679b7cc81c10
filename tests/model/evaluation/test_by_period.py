"""Periods and the tables of curves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation import by_period, curves
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.metrics import compute_metric
from labkit.model.evaluation.predictions import Predictions

DRAWS = {"n_samples": 100, "confidence": 0.95, "seed": 0, "blocks": make_rows(600)}
NEW_YEAR = pd.Series(pd.to_datetime(["2024-01-01 03:00"], utc=True))
TIMES = pd.Series(pd.date_range("2024-01-01", "2024-03-31", periods=600, tz="UTC"))
RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.integers(0, 2, 600)
PROBABILITY = np.clip(0.5 + (Y_TRUE - 0.5) * 0.3 + RANDOM.normal(0, 0.2, 600), 0, 1)
TWO = Predictions.from_proba(Y_TRUE, np.column_stack([1 - PROBABILITY, PROBABILITY]), ("no", "yes"))


@pytest.mark.parametrize(
    ("days", "fewest", "unit"), [(60, 2, "month"), (60, 6, "week"), (20, 2, "week"), (5, 2, "day"), (1200, 2, "year")]
)
def test_unit_fits_the_span(days: int, fewest: int, unit: str) -> None:
    times = pd.Series(pd.date_range("2024-01-01", periods=days, tz="UTC"))
    assert by_period.find_unit(times, fewest=fewest) == unit


def test_each_month_has_the_metric_of_its_rows() -> None:
    found = by_period.compute_by_period("roc_auc", {"model": TWO, "dummy": TWO}, by_period.name_periods(TIMES), **DRAWS)  # type: ignore[arg-type]
    assert list(found["period"]) == ["2024-01", "2024-02", "2024-03"]
    rows = np.flatnonzero(TIMES.dt.month == 2)
    assert found["model"][1] == compute_metric("roc_auc", TWO.take(rows))
    assert found["true"][1] == Y_TRUE[rows].mean()
    assert found["rows"].sum() == 600
    assert (found["low"] < found["model"]).all()


def test_period_that_cannot_be_judged_is_left_out() -> None:
    one_class = Predictions.from_proba(np.where(TIMES.dt.month == 1, 0, Y_TRUE), TWO.y_proba, TWO.classes)
    found = by_period.compute_by_period("roc_auc", {"model": one_class}, by_period.name_periods(TIMES), **DRAWS)  # type: ignore[arg-type]
    assert list(found["period"]) == ["2024-02", "2024-03"]


def test_curves_are_written_where_they_apply(tmp_path: Path) -> None:
    curves.write_curves(tmp_path, TWO, pd.DataFrame())
    roc = pd.read_csv(tmp_path / "roc" / "roc.csv")
    assert 2 < len(roc) <= curves.MOST_POINTS
    assert roc.iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    assert pd.read_csv(tmp_path / "calibration" / "calibration.csv")["rows"].sum() == 600


def test_folder_of_a_curve_that_does_not_apply_is_empty(tmp_path: Path) -> None:
    curves.write_curves(tmp_path, Predictions(np.arange(50.0), np.arange(50.0)), pd.DataFrame())
    found = {folder.name: [file.name for file in folder.iterdir()] for folder in tmp_path.iterdir()}
    assert found == {"roc": [], "precision_recall": [], "calibration": ["calibration.csv"], "by_period": []}


def test_period_is_named_in_the_zone_of_the_times() -> None:
    assert by_period.name_periods(NEW_YEAR).tolist() == ["2024-01 (1 day)"]
    assert by_period.name_periods(NEW_YEAR.dt.tz_convert("America/New_York")).tolist() == ["2023-12 (1 day)"]


def test_periods_that_the_times_do_not_fill_are_named_with_their_days() -> None:
    two_months = pd.Series(pd.date_range("2013-09-01 05:00", "2013-10-31 22:00", freq="h"))
    weeks = by_period.name_periods(two_months, "week").unique().tolist()
    assert [weeks[0], weeks[1], weeks[-1]] == ["2013-08-26 (1 day)", "2013-09-02", "2013-10-28 (4 days)"]
    assert by_period.name_periods(two_months).unique().tolist() == ["2013-09", "2013-10"]
    assert by_period.name_periods(two_months, "day").str.len().eq(10).all()
    assert by_period.name_periods(two_months[:0]).tolist() == []
