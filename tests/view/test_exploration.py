"""What the exploration says of itself: the rows it describes, the target's rate, and the columns that are left."""

import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from labkit.data.quality.profile import profile_table
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning, Data, Target
from labkit.view import data_plots, exploration, style, time_plots

TARGET = Target(column="late", task="classification", positive=1)
FLIGHTS = Subject("", "flight", "flights", {"1": "late", "0": "on time"})
PROFILE = pd.DataFrame(
    {
        "column": ["delay", "hour", "id", "noise", "late"],
        "score": [0.97, 0.05, 0.0, 0.001, np.nan],
        "set_aside": ["dropped", "", "identifier", "", ""],
    }
)
NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_eda.ipynb"


def make_data(**split: object) -> Data:
    """Return params with a split."""
    content = {"tables": {"t": {"path": "t.csv", "times": ("at",)}}, "target": TARGET.model_dump(), "split": split}
    if split.get("method") == "time":
        content["time"] = {"predict_at": "at", "outcome_known_at": "at + hours(1)"}
    return Data.model_validate(content)


BY_TIME = make_data(method="time", validation_from=date(2024, 2, 1), holdout_from=date(2024, 3, 1))


def test_columns_set_aside_come_last_and_in_grey_and_do_not_set_the_scale() -> None:
    assert data_plots.rank_columns(PROFILE, TARGET) == ["hour", "noise", "delay", "id"]
    figure = data_plots.plot_scores(PROFILE, most=12)
    assert "The best usable column, hour, explains 5 %" in figure.get_label()
    assert "In grey, cut at the edge: delay (dropped) and id (identifier)." in figure.get_label()
    axes = figure.axes[0]
    assert axes.get_xlim()[1] < 0.06, "scaled by the best usable column"
    color = tuple(int(style.GREY[place : place + 2], 16) / 255 for place in (1, 3, 5))
    assert [patch.get_facecolor()[:3] == color for patch in axes.patches] == [False, False, True, True]
    assert "97 %" in [text.get_text() for text in axes.texts]


def test_headline_is_the_rate_and_the_best_usable_column() -> None:
    frame = pd.DataFrame({"late": [1, 0, 0, 0], "price": [1.0, 2.0, 3.0, 6.0]})
    assert data_plots.describe_best(PROFILE, TARGET) == "best usable column hour, explains 5 % by itself"
    assert exploration.describe_outcome(frame, TARGET, FLIGHTS) == "25 % of flights are late"
    missing = pd.DataFrame({"late": [1, 0, 0, 0, None]})
    assert exploration.describe_outcome(missing, TARGET, FLIGHTS) == "25 % of the 4 flights with a target are late"
    number = Target(column="price", task="regression")
    assert exploration.describe_outcome(frame, number) == "mean price 3"
    unnamed = Target(column="late", task="classification")
    assert exploration.describe_outcome(frame, unnamed) == "75 % of rows have late = 0"


def test_identifiers_and_constants_are_not_called_weak() -> None:
    assert exploration.list_weak(PROFILE, TARGET) == ["noise"]


def test_page_says_which_rows_it_describes() -> None:
    part = exploration.describe_explored(np.array([True, True, False]), BY_TIME, FLIGHTS)
    assert part.startswith("What follows describes the **2 flights before 1 February 2024**, the training period.")
    every = exploration.describe_explored(np.ones(3, dtype=bool), make_data(), FLIGHTS)
    assert every.startswith("**All 3 flights are described**: the split is drawn at random from the clean flights")
    group = exploration.describe_explored(np.ones(3, dtype=bool), make_data(method="group", group="at"))
    assert "the split is drawn by group" in group


def test_page_says_what_is_measured_on_a_sample() -> None:
    assert exploration.describe_sample(pd.DataFrame({"x": range(20_000)}), FLIGHTS) == ""
    sampled = exploration.describe_sample(pd.DataFrame({"x": range(20_001)}), FLIGHTS)
    assert sampled.startswith("What a column explains is measured on 20,000 of these flights, drawn at random;")


def test_target_after_training_is_grey_and_not_part_of_the_fact() -> None:
    times = pd.date_range("2024-01-01", periods=90, tz="UTC")
    frame = pd.DataFrame({"predict_at": times, "late": (np.arange(90) >= 60).astype(int)})
    figure = time_plots.plot_over_time(frame, BY_TIME)
    assert "highest with 0 % in that" in figure.get_label()
    assert "of training; later ones in grey." in figure.get_label()
    later, known = figure.axes[0].lines[:2]
    assert (later.get_color(), known.get_color()) == (style.LINE, style.BLUE)
    assert len(known.get_xdata()) < len(later.get_xdata())


def test_notebook_hands_all_rows_only_to_what_may_look_at_them() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    lines = [line.strip() for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    uses = [line for line in lines if re.search(r"\bframe\b", line)]
    allowed = ("join_tables(", "mark_explored(frame", "take_explored(frame", "len(frame)", "frame.shape")
    allowed += ("compute_drift(frame", "every=frame", "plot_over_time(frame")
    assert [line for line in uses if not any(word in line for word in allowed)] == []
    assert {word for word in allowed if not any(word in line for line in uses)} == set()


def test_ends_of_columns_are_in_the_zone_and_the_format_declared() -> None:
    subject = Subject("", columns={"minute": ColumnMeaning(format="time_of_day")}, zone="America/New_York")
    times = pd.to_datetime(["2013-01-01 10:15", "2013-07-01 10:15"], utc=True)
    frame = pd.DataFrame({"minute": [300.0, 1110.0], "at": times, "late": [0, 1]})
    listed = exploration.list_columns(
        profile_table(frame, TARGET, seed=0, zone=subject.zone), ["minute", "at"], subject
    )
    assert listed[["smallest", "largest"]].to_numpy().tolist() == [
        ["05:00", "18:30"],
        ["2013-01-01 05:15 EST", "2013-07-01 06:15 EDT"],
    ]
