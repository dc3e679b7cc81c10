"""Groups of a column: rates with intervals, and the verdict on their differences."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.fairness import Difference, compare_groups, measure_groups
from labkit.model.evaluation.gate_limits import DeclaredGroups, check_fairness
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.record import round_all
from labkit.params.evaluation import Fairness
from labkit.view import group_plots, style

N_ROWS = 900
RANDOM = np.random.default_rng(0)
GROUPS = pd.Series(np.array(["north", "south", "<west>"])[RANDOM.choice(3, N_ROWS, p=[0.5, 0.45, 0.05])], name="region")
Y_TRUE = (RANDOM.random(N_ROWS) < 0.5).astype(int)
IS_HIT = RANDOM.random(N_ROWS) < np.where(GROUPS == "north", 0.9, 0.6)
Y_PRED = np.where(IS_HIT, Y_TRUE, 1 - Y_TRUE)
OURS = Predictions(Y_TRUE, Y_PRED, np.eye(2)[Y_PRED], ("no", "yes"), 1)
DRAWN: dict[str, Any] = {"n_samples": 200, "confidence": 0.95, "seed": 0, "blocks": make_rows(N_ROWS)}


def make_groups() -> dict[str, Any]:
    """Return groups and differences as `evaluation.json` holds them."""
    differences = compare_groups(GROUPS, OURS, rates=["true_positive", "selection"], **DRAWN)
    return DeclaredGroups(measure_groups(GROUPS, OURS, **DRAWN), None, differences).to_dict()


def test_plot_shows_each_rate_of_each_group_that_is_large_enough() -> None:
    content = make_groups()
    table = group_plots.frame_groups(
        [{**one, "high": None} if one["group"] == "<west>" else one for one in content["groups"]]
    )
    figure = group_plots.plot_groups(table, confidence=0.95)
    assert style.save_svg(figure).startswith("<svg")
    hits = [Y_PRED[GROUPS.eq(name).to_numpy() & (Y_TRUE == 1)].mean() for name in ("south", "north")]
    assert f"true positive rate {hits[0]:.3f} (south) to {hits[1]:.3f} (north)" in figure.fact
    assert "Dashed: all groups with enough rows together." in figure.fact
    assert "Lines: 95 % intervals of each rate by itself" in figure.fact
    assert figure.table is not None
    assert {*figure.table["group"]} == {"north", "south"}
    assert len(figure.axes) == 4


def test_groups_that_are_all_too_small_are_a_sentence() -> None:
    few = measure_groups(GROUPS.head(40), OURS.take(np.arange(40)), **{**DRAWN, "blocks": make_rows(40)})
    assert not group_plots.plot_groups(few, confidence=0.95).axes
    assert group_plots.frame_groups([]).empty


def test_differences_are_accepted_doubtful_or_too_large() -> None:
    differences = make_groups()["group_differences"]
    by_rate = {one["rate"]: one for one in differences}
    value, low = (by_rate["true positive rate"][name] for name in ("value", "low"))
    assert value > low > 0.1
    limits = {low - 0.01: "too large", (low + value) / 2: "perhaps by chance", value + 0.01: "accepted"}
    for limit, verdict in limits.items():
        table = group_plots.tabulate_differences(differences, limit)
        assert table.set_index("rate").loc["true positive rate", "verdict"] == verdict
        sentence = group_plots.summarize_differences(table.head(1))
        assert sentence.startswith("Differences between declared groups: 1 measured, all accepted") is (
            verdict == "accepted"
        )
        assert verdict in sentence
        assert ("Groups differ" in sentence, "Groups may differ" in sentence) == (
            verdict == "too large",
            verdict == "perhaps by chance",
        )
    assert group_plots.summarize_differences(group_plots.tabulate_differences([], None)) == ""


@pytest.mark.parametrize(
    ("intervals", "place", "verdict"),
    [
        ([(0.4, np.nan, np.nan)], 0, "too few independent rows to tell"),
        ([(0.2, 0.15, 0.25), (0.6, 0.5, 0.7)], 1, "too large"),
        ([(0.9, 0.05, 1.75), (0.2, 0.15, 0.25)], 1, "too large"),
        ([(0.05, 0.01, 0.09), (0.2, 0.05, 0.35)], 1, "perhaps by chance"),
        ([(0.3, 0.05, 0.55), (0.4, np.nan, np.nan)], 1, "too few independent rows to tell"),
    ],
)
def test_page_and_gate_have_one_verdict(intervals: list[tuple[float, float, float]], place: int, verdict: str) -> None:
    found = [
        Difference(f"column {number}", "accuracy", ("a", 1.0), ("b", 1 - one[0]), Interval(*one), 0)
        for number, one in enumerate(intervals)
    ]
    check = check_fairness(found, Fairness(columns=("x",), most_difference=0.1), confidence=0.95)
    # As the page reads them from `evaluation.json`.
    differences = round_all(DeclaredGroups(pd.DataFrame(), None, found).to_dict())["group_differences"]
    table = group_plots.tabulate_differences(differences, 0.1)
    assert (table["column"][0], table["verdict"][0]) == (f"column {place}", verdict)
    sentence = group_plots.summarize_differences(table)
    is_clear = verdict == "too large"
    assert sentence.startswith(f"**Groups {'differ' if is_clear else 'may differ'}**: accuracy by `column {place}`, ")
    assert sentence.endswith(f", {verdict}.")
    assert check.evidence.startswith(f"accuracy 1 where column {place} is a, ")
    assert (check.passed, check.warning) == (
        not is_clear, "" if is_clear else f"groups differ by column {place}, {verdict}"
    )  # fmt: skip
