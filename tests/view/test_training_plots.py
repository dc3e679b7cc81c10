"""Sentences about the choice of a candidate apply to what was compared."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.model.training.selection import Choice, describe_lead
from labkit.view.training_plots import describe_validation, plot_trials, summarize_choice
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import make_pipeline


def make_board(**errors: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"model": list(errors), "error": list(errors.values()), "mae": [44.0, 45.5, 61.0][: len(errors)]}
    )


def make_choice(reason: str = "", settings: Any = None) -> Choice:
    pipeline = make_pipeline(DummyRegressor())
    return Choice("linear", "sklearn", pipeline, "mae", 44.0, 2.0, settings or {}, reason)


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ({"linear": "", "forest": ""}, "it has the best mean of all candidates in the folds; nothing was tuned"),
        ({"linear": ""}, "it is the only candidate; nothing was tuned"),
        ({"linear": "", "dummy": ""}, "it is the only candidate; nothing was tuned"),
        ({"linear": "", "forest": "no memory"}, "it is the only candidate that could be fitted; nothing was tuned"),
    ],
)
def test_the_best_candidate_leads_only_over_others(errors: dict[str, str], reason: str) -> None:
    comparison: Any = SimpleNamespace(frame=make_board(**errors), best="linear")
    assert describe_lead(comparison) == reason


def test_a_single_candidate_is_chosen_among_no_others() -> None:
    choice = make_choice("it is the only candidate")
    alone = summarize_choice(make_board(linear=""), choice, "mae 44 ± 2")
    assert alone == ["`linear` is chosen, mae 44 ± 2: it is the only candidate."]


def test_the_other_candidates_are_named_with_their_metrics() -> None:
    board = make_board(linear="", forest="", dummy="")
    chosen, others = summarize_choice(board, make_choice("best"), "mae 44 ± 2")
    assert (chosen, others) == (
        "`linear` is chosen of 3 candidates, mae 44 ± 2: best.",
        "The others: `forest` 45.5 and `dummy` 61.0.",
    )
    tuned = summarize_choice(board.head(2), make_choice("best", {"alpha": 1.0}), "mae 44 ± 2")
    assert tuned[1] == "The other, with its defaults: `forest` 45.5."


@pytest.mark.parametrize(
    ("checked", "is_ordered", "end"),
    [
        (44.0, False, "**44**, which is the same. That is as expected."),
        (42.0, False, "**42**, which is better by 1 standard deviation of the folds. That is as expected."),
        (47.0, False, "worse by 1.5 standard deviations of the folds. That is as expected."),
        (38.8, True, "better by 2.6 standard deviations of the folds. That is more than expected: "
                     "rows later in time may be easier."),
        (38.8, False, "That is more than expected: these rows may be easier."),
        (50.0, True, "That is more than expected: rows later in time may be harder."),
        (50.0, False, "That is more than expected: be wary of the ranking."),
    ],
)  # fmt: skip
def test_a_result_far_from_the_folds_is_not_as_expected(checked: float, is_ordered: bool, end: str) -> None:
    written = describe_validation(make_choice(), checked, is_ordered=is_ordered)
    assert written.startswith("In the folds `linear` had mae 44.0 ± 2.0; on the validation rows it has **")
    assert written.endswith(end)


@pytest.mark.parametrize(("metric", "sign"), [("roc_auc", 1), ("mae", -1)])
def test_no_trial_is_left_out_of_the_plot(metric: str, sign: int) -> None:
    values = [0.755, 0.5, 0.6, *np.linspace(0.755, 0.76, 27), 0.74]
    frame = pd.DataFrame({"trial": range(31), "state": ["complete"] * 30 + ["pruned"], metric: np.array(values) * sign})
    frame["best"] = frame[metric].cummax() if sign > 0 else frame[metric].cummin()
    figure = plot_trials(frame, metric, "lightgbm")
    [axes] = figure.axes
    circles, crosses, triangles = (line for line in axes.lines if line.get_linestyle() == "None")
    low, high = axes.get_ylim()
    assert all(low <= value <= high for value in circles.get_ydata())
    assert [len(line.get_xdata()) for line in (circles, crosses, triangles)] == [28, 1, 2]
    assert triangles.get_marker() == ("v" if sign > 0 else "^")
    assert "2 others worse than the axis shows (triangles)." in figure.fact
    assert "worse than the axis" not in plot_trials(frame.drop(index=[1, 2]), metric, "lightgbm").fact
