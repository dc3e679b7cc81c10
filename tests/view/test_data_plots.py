import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.profile import profile_table
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning, Target
from labkit.view import data_plots, split_plots, style

from tests.view.tables import MANY_CLASSES, REGRESSION, TWO_CLASSES, make_table

TABLE = make_table()


def test_axis_of_times_of_the_day_is_written_in_them() -> None:
    frame = pd.DataFrame({"left": np.linspace(300, 1439, 60).round(), "late": [0, 1] * 30})
    target = Target(column="late", task="classification", positive=1)
    meaning = ColumnMeaning(description="departure", unit="minutes after midnight", format="time_of_day")
    figure = data_plots.plot_columns(frame, ["left"], target, subject=Subject("", columns={"left": meaning}))
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    shown = [label.get_text() for label in axis.get_ticklabels() if label.get_text()]
    assert shown == ["06:00", "12:00", "18:00", "24:00"]
    assert axis.get_label().get_text() == "departure"
    assert figure.table["value"].str.fullmatch(r"\d\d:\d\d").all()


TARGETS = pytest.mark.parametrize("target", [REGRESSION, TWO_CLASSES, MANY_CLASSES], ids=lambda target: target.column)


def is_drawn(figure: style.Figure) -> bool:
    return style.save_svg(figure).startswith("<svg")


@pytest.fixture(scope="module")
def profile() -> pd.DataFrame:
    return profile_table(TABLE, REGRESSION, seed=1)


@pytest.mark.slow
@TARGETS
def test_every_kind_of_column_can_be_drawn_against_every_kind_of_target(target: Target) -> None:
    columns = [name for name in TABLE.columns if name != target.column]
    figure = data_plots.plot_columns(TABLE, columns, target)
    assert is_drawn(figure)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert len(titles) == len(columns)
    assert f"{columns[0]}, {columns[1]}" in str(figure.get_label())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["size", "empty", "colour", "when", "flag", "constant"])
def test_one_column_can_be_drawn_large(name: str) -> None:
    assert is_drawn(data_plots.plot_columns(TABLE, [name], TWO_CLASSES, panel_inches=3))


def test_share_of_the_class_of_interest_is_drawn_by_category() -> None:
    frame = pd.DataFrame({"side": ["l"] * 10 + ["r"] * 10, "late": ["yes"] * 9 + ["no"] + ["yes"] + ["no"] * 9})
    (axes,) = data_plots.plot_columns(frame, ["side"], TWO_CLASSES).axes
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.1]


def test_words_fit_what_is_drawn() -> None:
    shapes = str(data_plots.plot_columns(TABLE, ["size"], REGRESSION).get_label())
    bars = str(data_plots.plot_columns(TABLE, ["colour"], TWO_CLASSES).get_label())
    assert "Orange: median of price" in shapes
    assert "Bars" not in shapes
    assert "Bars: share of yes; dashes: of all rows." in bars
    assert "shapes" not in bars


@pytest.mark.slow
def test_plot_of_missing_values_names_the_column_with_most(profile: pd.DataFrame) -> None:
    figure = data_plots.plot_missing(profile, most=2)
    assert is_drawn(figure)
    assert (
        "3 of 13 columns have missing values, of which the 2 with most missing values are drawn; empty has the most"
        in str(figure.get_label())
    )


def test_plot_of_a_full_table_shows_that_nothing_is_missing(profile: pd.DataFrame) -> None:
    figure = data_plots.plot_missing(profile[profile["missing_share"] == 0], most=5)
    assert is_drawn(figure)
    assert "Nothing is missing" in str(figure.get_label())


def test_scores_are_ranked_without_the_target(profile: pd.DataFrame) -> None:
    assert data_plots.rank_columns(profile, REGRESSION)[0] == "size"
    assert "price" not in data_plots.rank_columns(profile, REGRESSION)
    figure = data_plots.plot_scores(profile, most=4, highlight=["size"])
    assert is_drawn(figure)
    assert "The best single column, size, explains" in str(figure.get_label())
    assert "In orange: size." in str(figure.get_label())
    assert figure.axes[0].patches[0].get_facecolor() == matplotlib_color(style.ORANGE)


def matplotlib_color(color: str) -> tuple[float, ...]:
    return (*(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)), 1.0)


@pytest.mark.slow
@TARGETS
def test_target_is_drawn_for_either_task(target: Target) -> None:
    figure = data_plots.plot_target(TABLE[target.column], task=target.task, positive=target.positive)
    assert is_drawn(figure)
    assert target.column in str(figure.get_label())


def test_a_correlation_that_rounds_to_zero_has_no_sign() -> None:
    random = np.random.default_rng(13)
    frame = pd.DataFrame({"a": random.normal(size=50), "b": random.normal(size=50)})
    assert -0.005 < frame.corr("spearman").loc["a", "b"] < 0
    figure = data_plots.plot_correlation(frame, ["a", "b"])
    assert " at 0.00; " in figure.fact
    assert [text.get_text() for text in figure.axes[0].texts] == [".00"]


@pytest.mark.slow
def test_correlation_names_the_closest_pair_and_puts_alike_side_by_side() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(size=200), random.normal(size=200)
    frame = pd.DataFrame({"a": first, "b": second, "A": -first, "B": second + random.normal(0, 0.5, 200)})
    figure = data_plots.plot_correlation(frame, list(frame))
    assert "A at -1.00" in str(figure.get_label()) or "a at -1.00" in str(figure.get_label())
    order = data_plots.order_alike(frame.corr())
    assert abs(order.index("a") - order.index("A")) == 1
    assert abs(order.index("b") - order.index("B")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("columns", [[], ["size"], ["size", "count"], ["colour", "constant"], list(TABLE.columns)])
def test_correlation_survives_any_choice_of_columns(columns: list[str]) -> None:
    assert is_drawn(data_plots.plot_correlation(TABLE, columns))


@pytest.mark.slow
@TARGETS
def test_split_is_drawn_with_sizes_and_targets(target: Target) -> None:
    parts = {"training": TABLE[:70], "validation": TABLE[70:90], "holdout": TABLE[90:]}
    figure = split_plots.plot_split(parts, target)
    assert is_drawn(figure)
    assert "Training 58 %, validation 17 %, holdout 25 %" in str(figure.get_label())
    assert [bar.get_width() for bar in figure.axes[0].patches] == [70, 20, 30]


@TARGETS
def test_split_without_rows_is_drawn_without_a_warning(target: Target, recwarn: pytest.WarningsRecorder) -> None:
    assert is_drawn(split_plots.plot_split({"training": TABLE[:0], "holdout": TABLE[:0]}, target))
    assert [str(warning.message) for warning in recwarn] == []


def test_many_points_are_thinned_and_still_all_counted_in_the_middle() -> None:
    frame = pd.DataFrame({"x": np.arange(50_000.0), "price": np.arange(50_000.0)})
    (axes,) = data_plots.plot_columns(frame, ["x"], REGRESSION).axes
    points, middle = axes.lines
    assert len(points.get_xdata()) <= data_plots.MOST_POINTS
    assert np.allclose(middle.get_xdata(), np.arange(10) * 5000 + 2499.5)
