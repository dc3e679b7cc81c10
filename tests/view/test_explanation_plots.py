"""Plots of explanations on the names and units that people know, and on values that cannot be drawn."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.predictions import Predictions
from labkit.model.explanation.contributions import summarize_contributions
from labkit.model.explanation.partial_dependence import choose_values, compute_dependences
from labkit.model.explanation.shapley import Columns, Explanation, explain_row, explain_rows
from labkit.model.explanation.telling_rows import TellingRow
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning
from labkit.view import explanation_plots, style

SUBJECT = Subject(
    "Will it be late?",
    "flight",
    "flights",
    {"1": "late", "0": "on time"},
    {
        "left": ColumnMeaning(description="departure", unit="minutes after midnight", format="time_of_day"),
        "distance": ColumnMeaning(description="distance between the airports", unit="miles"),
        "delay": ColumnMeaning(description="arrival delay", unit="minutes"),
    },
    "America/New_York",
)
RANDOM = np.random.default_rng(0)
N_ROWS = 60
ROWS = {
    "left": RANDOM.integers(0, 1440, N_ROWS).astype(float),
    "distance": RANDOM.normal(800, 300, N_ROWS),
    "carrier": RANDOM.choice(np.array(["UA", "AA", None], object), N_ROWS),
}
BACKGROUND = {name: values[:10] for name, values in ROWS.items()}
FACTS: dict[str, Any] = {"classes": [0, 1], "positive": 1, "target": "late"}


def predict(columns: Columns) -> np.ndarray:
    score = (columns["left"] - 700) / 400 + (columns["carrier"] == "UA") - columns["distance"] / 2000
    late = 1 / (1 + np.exp(-score.astype(float)))
    return np.column_stack([1 - late, late])


EXPLAINED = explain_rows(predict, ROWS, BACKGROUND)
IMPORTANCE = summarize_contributions(EXPLAINED, confidence=0.95, blocks=make_rows(N_ROWS))
OURS = Predictions.from_proba(np.arange(N_ROWS) % 2, predict(ROWS), (0, 1), 1)


def draw(figure: style.Figure) -> str:
    """Return what is written beside and in a figure, drawn without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = style.save_svg(figure) if figure.axes else ""
    assert "nan" not in f"{figure.get_label()} {figure.fact}"
    return f"{figure.fact} {drawn}"


def compute_all(predict_rows: Any = predict) -> dict[str, pd.DataFrame]:
    kinds = {"left": "number", "distance": "number", "carrier": "category"}
    values = {name: choose_values(pd.Series(ROWS[name]), kind) for name, kind in kinds.items()}
    return compute_dependences(predict_rows, ROWS, values, most=3, confidence=0.95, blocks=make_rows(N_ROWS))


def test_contributions_are_named_as_people_know_the_columns() -> None:
    figure = explanation_plots.plot_contributions(
        IMPORTANCE, scale="probability", n_rows=N_ROWS, confidence=0.95, most=2, subject=SUBJECT
    )
    text = draw(figure)
    assert "departure (minutes after midnight) moves a prediction by 0." in text
    assert "of all contributions to 60 holdout flights. Lines: 95 % intervals over other flights." in text
    assert f"Not drawn: 1 column with {100 * IMPORTANCE['share'][2]:.0f} % of them." in text
    assert figure.table is not None
    assert len(figure.table) == 2


def test_columns_with_long_descriptions_keep_their_names() -> None:
    long = ColumnMeaning(description="distance between the two airports as the crow flies")
    subject = replace(SUBJECT, columns={**SUBJECT.columns, "distance": long})
    labels: dict[str, Any] = {"scale": "probability", "n_rows": N_ROWS, "confidence": 0.95, "subject": subject}
    figure = explanation_plots.plot_contributions(IMPORTANCE, most=3, **labels)
    assert "distance" in [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert "…" not in draw(figure)


def test_row_shows_values_in_their_units_and_adds_up() -> None:
    holdout = pd.DataFrame({**ROWS, "late": OURS.y_true, PREDICT_AT: pd.Timestamp("2013-09-01 14:00", tz="UTC")})
    holdout.loc[3, ["left", "carrier"]] = [1110.0, None]
    found = explain_row(predict, {name: holdout.loc[[3], name].to_numpy() for name in ROWS}, BACKGROUND)
    telling = TellingRow("Most certain and wrong", 3)
    figure = explanation_plots.plot_telling_row(telling, found, holdout, facts=FACTS, subject=SUBJECT)
    text = draw(figure)
    assert figure.title == "Most certain and wrong"
    assert figure.fact.startswith("Row 3 of 2013-09-01 10:00, true class: late. The probability of late is 0.")
    assert figure.table is not None
    assert "departure = 18:30" in figure.table["column"].tolist()
    assert "carrier = missing" in figure.table["column"].tolist()
    assert "carrier = missing" in text
    total = float(found.base[1]) + sum(map(float, figure.table["contribution"]))
    assert total == pytest.approx(found.prediction[1], abs=0.005)


def test_many_small_contributions_are_added_up() -> None:
    names = [f"c{place}" for place in range(30)]
    row = {name: np.array([float(place)]) for place, name in enumerate(names)}
    background = {name: np.array([0.0, 0.0]) for name in names}
    found = explain_row(lambda columns: sum(columns.values(), np.zeros(len(columns["c0"]))), row, background)
    figure = explanation_plots.plot_explanation(
        "Median prediction", found, 0, dict.fromkeys(names, "1"), scale="sum", outcome="Row 1."
    )
    draw(figure)
    assert figure.table is not None
    assert figure.table["column"].iloc[-1] == "20 other columns"
    assert sum(map(float, figure.table["contribution"])) == sum(range(30))


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_of_contributions_cover_no_name_of_a_column(sign: int) -> None:
    names = [f"a rather long name of column {place}" for place in range(6)]
    sizes = sign * np.array([[0.5], [0.4], [-0.31], [0.2], [-0.1], [0.05]])
    found = Explanation(tuple(names), np.zeros(1), sizes.sum(axis=0), sizes, np.full((6, 1), 0.04), 20, 5)
    figure = explanation_plots.plot_explanation(
        "Median prediction", found, 0, dict.fromkeys(names, "2013-09-09 16:20"), scale="sum", outcome="Row 1."
    )
    draw(figure)
    [axes] = figure.axes
    frame, boxes = axes.get_window_extent(), [label.get_window_extent() for label in axes.texts]
    assert len(boxes) == 6
    assert all(frame.x0 - 2 < box.x0 and box.x1 < frame.x1 + 2 for box in boxes)


def test_dependence_is_drawn_for_the_class_of_interest_only() -> None:
    outputs = explanation_plots.name_outputs(OURS, [0, 1], "late", SUBJECT)
    assert outputs == {1: "probability of late"}
    tables = compute_all()
    drawn: dict[str, Any] = {"scale": "probability", "n_rows": N_ROWS, "confidence": 0.95, "subject": SUBJECT}
    figure = explanation_plots.plot_dependences(tables, outputs, **drawn)
    text = draw(figure)
    assert "With departure (minutes after midnight) alone set to one value for all of 60 holdout flights" in text
    assert "12:00" in text, "times of the day are ticks"
    expected = tables["left"].query("output == 1")["mean"]
    assert f"{expected.max() - expected.min():.3f}".rstrip("0") in text
    sentence = explanation_plots.summarize_dependences(tables, outputs, subject=SUBJECT)
    assert sentence.startswith("With `departure (minutes after midnight)` alone, the mean probability of late changes")


def test_numbers_and_several_classes_are_named() -> None:
    three = Predictions.from_proba(np.array([2, 2, 0]), np.eye(3), ("a", "b", "c"))
    assert explanation_plots.name_outputs(three, ["a", "b", "c"], "kind") == {
        2: "probability of c",
        0: "probability of a",
        1: "probability of b",
    }
    number = Predictions(np.ones(2), np.ones(2))
    assert explanation_plots.name_outputs(number, [], "delay", SUBJECT) == {0: "predicted arrival delay (minutes)"}
    tables = compute_all(lambda columns: np.column_stack([predict(columns) / 2, predict(columns)[:, :1] / 2]))
    outputs = {0: "probability of a", 1: "probability of b", 2: "probability of c"}
    figure = explanation_plots.plot_dependences(tables, outputs, scale="probability", n_rows=N_ROWS, confidence=0.9)
    assert "probability of c" in draw(figure)


def test_what_cannot_be_drawn_is_stated() -> None:
    none = summarize_contributions(
        explain_rows(lambda columns: columns["left"] * 0, ROWS, BACKGROUND), confidence=0.9, blocks=make_rows(N_ROWS)
    )
    plain: dict[str, Any] = {"scale": "probability", "n_rows": N_ROWS, "confidence": 0.9}
    assert draw(explanation_plots.plot_contributions(none, most=5, **plain)).startswith("No column contributes to any")
    assert "the model predicts the same for every row" in explanation_plots.summarize_reliance(none)
    assert draw(explanation_plots.plot_dependences({}, {0: "p"}, **plain)).startswith("No column that contributes")
    assert explanation_plots.summarize_dependences({}, {0: "p"}) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 0.0, -1e-300])
def test_extreme_numbers_are_drawn_or_left_out(value: float) -> None:
    def scale(found: Explanation) -> Explanation:
        return replace(found, contributions=found.contributions * value, errors=found.errors * value)

    with np.errstate(all="ignore"):
        found = scale(EXPLAINED[0])
        importance = IMPORTANCE.assign(**{name: IMPORTANCE[name] * value for name in ("size", "low", "high")})
        tables = {
            name: table.assign(**{one: table[one] * value for one in ("mean", "low", "high")})
            for name, table in compute_all().items()
        }
        figures = [
            explanation_plots.plot_explanation("T", found, 1, dict.fromkeys(ROWS, "1"), scale="p", outcome="Row 1."),
            explanation_plots.plot_contributions(importance, scale="p", n_rows=9, confidence=0.9, most=3),
            explanation_plots.plot_dependences(tables, {1: "p"}, scale="p", n_rows=9, confidence=0.9),
        ]
        for figure in figures:
            if figure.axes:
                style.save_svg(figure)
