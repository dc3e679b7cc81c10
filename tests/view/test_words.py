"""Plots say what rows, classes and columns are called where the params declare it."""

import numpy as np
import pandas as pd
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning, Target
from labkit.view import data_plots, evaluation_plots, model_plots, split_plots, time_plots
from labkit.view.style import Figure, make_figure

COLUMNS = {"distance": ColumnMeaning(description="way", unit="miles"), "delay": ColumnMeaning(unit="minutes")}
SUBJECT = Subject("Late?", "flight", "flights", {"1": "late", "0": "on time"}, COLUMNS)
CLASSES = Target(column="y", task="classification", positive=1)
NUMBER = Target(column="delay", task="regression")
FRAME = pd.DataFrame({"distance": np.arange(40.0), "y": np.arange(40) % 2, "delay": np.arange(40.0)})
TWO = Predictions(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), (0, 1))
ONE = Predictions(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5, 3.0]))


def read(figure: Figure) -> str:
    """Return all that is written in a figure."""
    axes = [f"{one.get_xlabel()} | {one.get_ylabel()} | {one.get_title(loc='left')}" for one in figure.axes]
    ticks = [label.get_text() for one in figure.axes for label in (*one.get_xticklabels(), *one.get_yticklabels())]
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    inner = [text.get_text() for one in figure.axes if (found := one.get_legend()) for text in found.get_texts()]
    return " | ".join([str(figure.get_label()), *axes, *ticks, *legends, *inner])


def test_classes_have_their_labels() -> None:
    parts = {"training": FRAME, "holdout": FRAME.head(10)}
    target = data_plots.plot_target(FRAME["y"], task="classification", positive=1, subject=SUBJECT)
    for figure in (
        target,
        data_plots.plot_columns(FRAME, ["distance"], CLASSES, subject=SUBJECT),
        split_plots.plot_split(parts, CLASSES, subject=SUBJECT),
        model_plots.plot_mistakes(TWO, "y", subject=SUBJECT),
        model_plots.plot_curves({"model": TWO}, subject=SUBJECT),
        model_plots.plot_calibration(TWO, "y", blocks=make_rows(3), subject=SUBJECT),
    ):
        assert "late" in read(figure)
    assert "the largest, on time, holds 50 % of 40 flights." in read(target)
    assert time_plots.name_outcome(CLASSES, SUBJECT) == "share of late flights"
    assert "predicted as `late`, 2 belong to it" in evaluation_plots.describe_threshold(None, TWO, subject=SUBJECT)


def test_caption_of_a_plot_is_plain_text() -> None:
    figure, _ = make_figure("A plot", "Rows of class `no` differ.", form="Note", height=1)
    assert (figure.fact, figure.get_label()) == ("Rows of class no differ.", "Note: A plot. Rows of class no differ.")


def test_axes_show_units() -> None:
    assert "way (miles)" in read(data_plots.plot_columns(FRAME, ["distance"], CLASSES, subject=SUBJECT))
    assert "delay (minutes) | flights" in read(
        data_plots.plot_target(FRAME["delay"], task="regression", subject=SUBJECT)
    )
    residuals = read(model_plots.plot_mistakes(ONE, "delay", subject=SUBJECT))
    assert "true delay (minutes) | predicted delay (minutes) | Each flight" in residuals
    assert "predicted − true (minutes) | flights" in residuals
    curves = read(model_plots.plot_curves({"model": ONE}, name="delay", subject=SUBJECT))
    assert "largest error (minutes) | share of flights" in curves
    median = Predictions(ONE.y_true, np.full(len(ONE.y_true), 7.0))
    curves = read(model_plots.plot_curves({"model": ONE, "dummy": median}, name="delay", subject=SUBJECT))
    assert ", by dummy (always 7) within " in curves
    curves = read(model_plots.plot_curves({"model": ONE, "dummy": median}, name="delay", metric="mae", subject=SUBJECT))
    assert ", by dummy (always 7, best for mae) within " in curves
    long = Subject("?", columns={"delay": ColumnMeaning(description="delay at the gate of the airport of arrival")})
    calibration = model_plots.plot_calibration(ONE, "delay", blocks=make_rows(len(ONE.y_true)), subject=long)
    assert "delay at the gate of the airport of\narrival, mean of the group" in calibration.axes[0].get_ylabel()


def test_words_are_generic_where_nothing_is_declared() -> None:
    assert "1 mistake in 3 rows; each row is assigned" in read(model_plots.plot_mistakes(TWO, "y"))
    assert "largest error (in the target's unit) | share of rows" in read(model_plots.plot_curves({"model": ONE}))
