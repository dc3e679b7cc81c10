from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.threshold import evaluate_threshold
from labkit.params.evaluation import Costs
from labkit.view import evaluation_plots, style

Y_TRUE = np.array([0, 0, 1, 1])
TWO = Predictions.from_proba(Y_TRUE, np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8]]), ("no", "yes"))
COSTS = Costs(false_positive=1, false_negative=5)
OUTCOME = evaluate_threshold(TWO, 0.3, COSTS, n_samples=100, confidence=0.9, seed=0, blocks=make_rows(4))


def make_periods(dummy: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "period": ["2020-01", "2020-02"],
            "rows": [50, 60],
            "true": [0.2, 0.3],
            "prediction": [0.25, 0.2],
            "low": [0.6, 0.7],
            "high": [0.8, 0.9],
            "model": [0.7, 0.8],
            "plain LightGBM": [0.65, 0.7],
            "dummy": [dummy, dummy],
        }
    )


def is_drawn(figure: style.Figure) -> bool:
    return style.save_svg(figure).startswith("<svg")


@pytest.mark.slow
def test_costs_name_the_threshold_and_what_it_saves() -> None:
    figure = evaluation_plots.plot_costs(TWO, OUTCOME, COSTS)
    assert is_drawn(figure)
    assert (
        "Acting from 0.3 on costs 0.250 per row; acting on every row or on none, whichever is cheaper, costs 0.500"
        in str(figure.get_label())
    )
    description = evaluation_plots.describe_threshold(OUTCOME, TWO, costs=COSTS)
    assert "1 for a false positive, " in description
    assert "They are relative, so no sum of money follows" in description
    assert "flags 75 % of the rows, catches 100 % of the rows of class `yes` and is right in 67 %" in description


def test_label_of_a_cost_covers_no_part_of_the_curve() -> None:
    rising = pd.DataFrame({"threshold": np.linspace(0, 1, 50), "cost": np.linspace(0.2, 1.0, 50)})
    assert evaluation_plots.find_free_end(rising, 0.9) == (0.0, "left"), "the curve passes above 0.9 on the right"
    assert evaluation_plots.find_free_end(rising, 0.2) == (1.0, "right")


def test_a_saving_whose_interval_includes_0_is_not_claimed() -> None:
    sure = replace(OUTCOME, saving=Interval(0.25, 0.1, 0.75))
    shown = evaluation_plots.describe_acting(sure, costs=COSTS)
    assert shown.startswith("Acting from a probability of 0.3 on saves 0.250 [0.100, 0.750]")
    doubtful = replace(OUTCOME, saving=Interval(0.1, -0.01, 0.23))
    assert evaluation_plots.describe_acting(doubtful) == (
        "Acting from a probability of 0.3 on is not shown to save anything: 0.100 [-0.010, 0.230] per row compared "
        "with acting on every row or on none, whichever is cheaper."
    )
    assert evaluation_plots.describe_acting(doubtful) in evaluation_plots.describe_threshold(doubtful, TWO)
    assert evaluation_plots.describe_acting(None) == ""


def test_missing_threshold_is_explained_with_what_is_done_instead() -> None:
    never = Predictions.from_proba(
        np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), ("no", "yes"), 1
    )
    description = evaluation_plots.describe_threshold(None, never)
    assert "no costs are declared (`evaluation.costs`)" in description
    assert description.endswith(
        "Each row is assigned its most probable class: 0 of 3 rows are predicted as `yes`, 2 belong to it."
    )
    assert "does not have two classes" in evaluation_plots.describe_threshold(None, Predictions(np.ones(2), np.ones(2)))


@pytest.mark.slow
@pytest.mark.parametrize(("dummy", "lines"), [(0.5, 3), (-80.0, 2)])
def test_periods_name_best_and_worst_and_leave_out_a_far_dummy(dummy: float, lines: int) -> None:
    figure = evaluation_plots.plot_periods(make_periods(dummy), "roc_auc", unit="month", confidence=0.9)
    assert is_drawn(figure)
    assert "Best in the month 2020-02 with roc_auc 0.800, worst in 2020-01 with 0.700" in str(figure.get_label())
    assert len(figure.axes[0].lines) == lines
    assert "Best in the month 2020-01 with mae 0.700" in str(
        evaluation_plots.plot_periods(make_periods(dummy), "mae", unit="month", confidence=0.9).get_label()
    )
    assert "Lines to either side: 90 % intervals" in str(figure.get_label())
    alone = make_periods(dummy).assign(low=np.nan, high=np.nan)
    without = evaluation_plots.plot_periods(alone, "roc_auc", unit="week", confidence=0.9)
    assert str(without.get_label()).endswith(
        "Within one week too few rows are independent of each other for an interval."
    )


@pytest.mark.slow
def test_slices_and_importance_name_the_first() -> None:
    slices = pd.DataFrame(
        {"slice": ["a = 1", "b ≥ 2"], "rows": [30, 40], "loss": [2.0, 1.5], "elsewhere": [1.0, 1.0], "low": [0.5, 0.1]}
    ).assign(high=1.2)
    figure = evaluation_plots.plot_slices(slices, loss="mean error", confidence=0.95)
    assert is_drawn(figure)
    label = "departure_minute from 1,110 to below 1,230 and weather_visibility_in_miles from 2 to below 4"
    (long,) = evaluation_plots.plot_slices(slices.head(1).assign(slice=label), loss="loss", confidence=0.95).axes
    assert " ".join(long.get_yticklabels()[0].get_text().split()) == label, "not cut"
    assert "Worst: a = 1, with 30 rows and a mean error of 2 against 1 elsewhere." in str(figure.get_label())
    frame = pd.DataFrame({"column": ["x", "y"], "loss": [0.2, 0.0], "low": [0.1, -0.1], "high": [0.3, 0.1]})
    figure = evaluation_plots.plot_importance(frame, "roc_auc", n_rows=100, most=5)
    assert is_drawn(figure)
    assert (
        "With x shuffled, roc_auc gets worse by 0.200, measured on 100 holdout rows. 1 of 2 features matters beyond random variation."
    ) in str(figure.get_label())
    assert "spread over 5 shuffles of these rows only" in str(figure.get_label())
    assert "same permutation" not in str(figure.get_label())
    families = evaluation_plots.plot_importance(frame, "roc_auc", n_rows=100, most=5, noun="family")
    assert "a family can matter less than one of its columns" in str(families.get_label())


def test_label_of_the_axis_is_not_cut_beside_long_names() -> None:
    unit = "difference of the mean absolute error, with 95 % interval"
    figure = evaluation_plots.draw_slices(
        "a", "b", ["scheduled_departure_minute from 2000 to below 2010"], [Interval(-0.2, -0.3, -0.1)],
        colors=[style.BLUE], unit=unit,
    )  # fmt: skip
    figure.draw_without_rendering()
    box = figure.axes[0].xaxis.label.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
