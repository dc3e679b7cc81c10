"""What changes with time: every part cut alike, nothing reported about values that were not seen often enough."""

from datetime import date

import numpy as np
import pandas as pd
from labkit.data.stability import compute_by_key, compute_drift, compute_over_time
from labkit.params.tables import Data, Target
from labkit.view.time_plots import choose_period, plot_by_key


def test_identifiers_do_not_drift_and_short_periods_are_the_same_for_all() -> None:
    times = pd.date_range("2021-01-01", periods=800, freq="D", tz="UTC")
    table = pd.DataFrame(
        {
            "predict_at": times,
            "email": [f"{number}@example.com" for number in range(800)],
            "town": ["Ulm", "Bonn", "Kiel", "Jena"] * 200,
            "outcome": np.arange(800.0),
        }
    )
    target = Target.model_validate({"column": "outcome", "task": "regression"})
    data = Data.model_validate(
        {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "outcome", "task": "regression"}}
    )
    assert list(compute_drift(table, data, ["email", "town"])["column"]) == ["town"]
    assert len(compute_over_time(table.head(100), target, span_days=800)) == 4  # months, as of the whole table


def test_split_by_time_is_compared_as_its_check_compares_it() -> None:
    """Rows of the validation and aside periods, which differ more, do not count."""
    times = pd.date_range("2021-01-01", periods=400, freq="D", tz="UTC")
    values = np.repeat([0.0, 90.0, 0.0, 50.0], 100) + np.arange(400) % 100
    table = pd.DataFrame({"predict_at": times, "heat": values, "outcome": np.arange(400.0)})
    days = {"validation_from": date(2021, 4, 11), "holdout_from": date(2021, 7, 20), "aside_from": date(2021, 10, 28)}
    data = Data.model_validate(
        {
            "tables": {"t": {"path": "t.csv"}},
            "target": {"column": "outcome", "task": "regression"},
            "time": {"predict_at": "at", "outcome_known_at": "at"},
            "split": {"method": "time", **days},
        }
    )
    (drift,) = compute_drift(table, data, ["heat"])["drift"]
    assert drift == 0.0


def test_values_without_enough_rows_in_a_period_are_not_called_lowest() -> None:
    times = pd.date_range("2021-01-01", periods=800, freq="D", tz="UTC")
    towns = pd.Series(["Ulm", "Bonn"] * 400)
    towns[::200] = "Kiel"
    values = towns.map({"Ulm": 1.0, "Bonn": 2.0, "Kiel": 9.0}) * 100_000
    table = pd.DataFrame({"predict_at": times, "town": towns, "outcome": values})
    target = Target.model_validate({"column": "outcome", "task": "regression"})
    assert list(compute_by_key(table, target, "town", period="Q").index) == ["Bonn", "Ulm"]
    period, by_period, _ = choose_period(table, target, "town")
    assert (period, by_period.shape) == ("year", (2, 3))
    assert "Kiel" not in plot_by_key(table, pd.DataFrame({"column": ["town"], "score": [0.5]}), target).get_label()


def test_dates_are_shown_in_the_declared_zone() -> None:
    times = pd.date_range("2021-01-01 00:00", "2021-03-31 23:30", freq="30min", tz="UTC")
    table = pd.DataFrame({"predict_at": times, "y": [1.0, 2.0] * (len(times) // 2), "town": "Ulm"})
    target = Target(column="y", task="regression")
    assert compute_over_time(table, target, zone="America/New_York")["start"].iloc[0] == pd.Timestamp("2020-12-28")
    months = [list(compute_by_key(table, target, "town", zone=zone).columns) for zone in ("UTC", "Asia/Tokyo")]
    assert months[0] == ["2021-01", "2021-02", "2021-03"]
    assert months[1] == [*months[0], "2021-04"]
