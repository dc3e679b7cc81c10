"""The comparison of a random split with the declared one: its interval, and when there is nothing to compare."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.split import split_rows
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.split_comparison import SplitComparison, compare_splits, compute_difference
from labkit.params.tables import Data
from labkit.view.time_plots import describe_split_comparison, plot_split_comparison


def make_table(n_days: int, per_day: int, *, seed: int) -> pd.DataFrame:
    """Return rows whose target is mostly an effect of their day, which a random split lets a model learn."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(n_days), per_day)
    weather, effect = random.normal(size=n_days), random.normal(size=n_days)
    times = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(day, "D")
    frame = pd.DataFrame({"weather": weather[day], "x": random.normal(size=len(day))})
    frame = frame.assign(y=effect[day] + 0.3 * frame["x"] + 0.1 * random.normal(size=len(day)))
    return frame.assign(**{PREDICT_AT: times, OUTCOME_KNOWN_AT: times + pd.Timedelta("1min")}).rename_axis(index="row")


def make_data(**changes: Any) -> Data:
    """Return params of a table split by time, or with the given changes."""
    content: dict[str, Any] = {
        "tables": {"t": {"path": "t.csv", "times": ("at",)}},
        "time": {"predict_at": "at", "outcome_known_at": "at + minutes(1)"},
        "target": {"column": "y", "task": "regression"},
        "split": {"method": "time", "validation_from": date(2024, 3, 1), "holdout_from": date(2024, 4, 1)},
    }
    return Data.model_validate(content | changes)


@pytest.mark.slow
def test_interval_resamples_days_and_is_named() -> None:
    data, table = make_data(), make_table(120, 20, seed=0)
    parts = split_rows(table, data, seed=0)
    found = compare_splits(parts, data, seed=0)
    assert found.is_compared
    assert found.difference.value == pytest.approx(found.random - found.declared)
    assert found.difference.low < found.difference.value < found.difference.high
    assert found.resampled.startswith("29 days")
    assert describe_split_comparison(found).endswith(
        "the random one is 1.17 higher; the 95 % interval of the difference 0.83 to 2.14 (both sets of rows resampled "
        f"by blocks, {found.resampled} in the holdout)."
    )


def test_noise_is_not_reported_as_a_claim() -> None:
    blocks = "29 days"
    noise = SplitComparison("roc_auc", "time", 0.742, 0.769, 99, "", Interval(-0.027, -0.06, 0.01), blocks)
    assert not noise.is_different
    assert describe_split_comparison(noise) == (
        "No difference in roc_auc between a random split and the split by time is shown: the 95 % interval of the "
        "difference -0.060 to 0.010 includes 0 (both sets of rows resampled by blocks, 29 days in the holdout)."
    )
    assert "0.742" not in str(plot_split_comparison(noise).get_label())
    few = SplitComparison("roc_auc", "time", 0.7, 0.6, 99, "", Interval(0.1, np.nan, np.nan), "1 day")
    assert not few.is_different
    assert describe_split_comparison(few).startswith("Not compared: there are too few independent rows (1 day)")
    assert replace(noise, difference=Interval(-0.027, -0.06, -0.01)).is_different


def test_interval_by_days_is_wider_than_one_by_rows_where_rows_share_their_day() -> None:
    random = np.random.default_rng(0)
    day = np.repeat(np.arange(40), 25)
    y_true, error = random.normal(size=1000), random.normal(size=40)[day] + 0.2 * random.normal(size=1000)
    pair = [Predictions(y_true, y_true + one) for one in (0.1 * error, error)]
    widths = {}
    for name, blocks in {"days": Blocks(day, "day"), "rows": make_rows(1000)}.items():
        found = compute_difference("r2", *((predictions, blocks) for predictions in pair), seed=0)
        widths[name] = found.high - found.low
    assert widths["days"] > 2 * widths["rows"]


def test_groups_are_resampled_where_the_split_keeps_them_together() -> None:
    data = make_data(time=None, split={"method": "group", "group": "patient"}, tables={"t": {"path": "t.csv"}})
    table = make_table(60, 10, seed=1).drop(columns=[PREDICT_AT, OUTCOME_KNOWN_AT])
    table = table.assign(patient=[f"p{row // 10}" for row in range(600)])
    found = compare_splits(split_rows(table, data, seed=0), data, seed=0)
    assert found.resampled.endswith("values of patient")


@pytest.mark.parametrize(
    ("table", "changes", "reason"),
    [
        (make_table(120, 2, seed=0)[["y", PREDICT_AT, OUTCOME_KNOWN_AT]], {}, "no column besides times"),
        (make_table(92, 1, seed=0), {}, "fewer than two rows"),
        (make_table(120, 2, seed=0), {"split": {"method": "random"}}, "the split is random"),
    ],
)
def test_nothing_to_compare_has_a_reason(table: pd.DataFrame, changes: dict[str, Any], reason: str) -> None:
    data = make_data(**changes)
    found = compare_splits(split_rows(table, data, seed=0), data, seed=0)
    assert not found.is_compared
    assert reason in found.reason
    assert not found.is_different
    assert describe_split_comparison(found) == f"Not compared: {found.reason}."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (lambda day: "a" if day < 60 else "b", "the rows to fit a model on have only one class"),
        (lambda day: "ab"[day % 2] if day < 85 else "a", "the rows to evaluate it on have only one class"),
        (lambda day: "abc"[day % 3] if day < 85 else "abcd"[day % 4], ""),
        (lambda day: "ab"[day % 2] if day < 85 else "cd"[day % 2], ""),
    ],
)
def test_classes_that_end_or_come_later(kind: Any, reason: str) -> None:
    table = make_table(120, 4, seed=2)
    table = table.assign(y=pd.Series([kind(row // 4) for row in range(480)], index=table.index, dtype="str"))
    data = make_data(target={"column": "y", "task": "classification"})
    parts = {"training": table[:240], "validation": table[240:364], "holdout": table[364:]}
    found = compare_splits(parts, data, seed=0)
    assert reason in found.reason
    assert found.is_compared == (not reason)
