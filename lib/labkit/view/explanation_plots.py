"""Plots of explanations: what a model relies on, why rows are predicted as they are, how predictions change."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.predictions import Predictions
from labkit.model.explanation.shapley import Explanation, choose_output
from labkit.model.explanation.telling_rows import TellingRow
from labkit.params.subject import GENERIC, Subject
from labkit.view.data_plots import set_clock_ticks
from labkit.view.prose import (
    count,
    escape,
    format_column,
    format_confidence,
    format_interval,
    format_number,
    format_share,
    join_names,
    shorten_name,
)
from labkit.view.style import (
    BLUE,
    INK,
    LINE,
    ORANGE,
    PALETTE,
    Axes,
    Figure,
    add_legend,
    finish_bars,
    keep_drawable,
    label_point,
    make_figure,
    make_note,
    make_room,
    set_ticks,
    style,
)

MOST_BARS = 9
"""Columns at most whose contributions to one prediction are drawn; the others are added up."""
MOST_OUTPUTS = 4
"""Classes at most whose probabilities are drawn."""
FEWEST_TICKED = 5
"""Number of different values from which on the axis has round ticks; fewer are ticked each."""
OTHERS, LONGEST_VALUE = "other columns", 20
"""Name of the columns that are added up, and the longest value that is written in full."""


def name_input(name: str, subject: Subject = GENERIC, *, as_clock: bool = False) -> str:
    """Return what a raw column of the model holds, with its unit, or its name; also of the time that params define.

    Next to a value that is written `as_clock`, times of a day have no unit.

    >>> name_input("predict_at"), name_input("age")
    ('time of the prediction', 'age')
    """
    is_named = name == PREDICT_AT and name not in subject.columns
    if is_named:
        return "time of the prediction"
    return subject.name_briefly(name, as_clock=as_clock)


def name_output(label: Any, target: str, subject: Subject = GENERIC) -> str:
    """Return what an output of the model is: the probability of a class, or the number with its unit.

    Parameters
    ----------
    label
        The class; None for a number.

    Examples
    --------
    >>> name_output("yes", "late"), name_output(None, "delay")
    ('probability of yes', 'predicted delay')
    """
    if label is None:
        return f"predicted {subject.name_column(target)}"
    return f"probability of {subject.name_class(label)}"


def name_scale(classes: Sequence[Any], target: str, subject: Subject = GENERIC) -> str:
    """Return what contributions to all outputs are measured in: probabilities, or the number with its unit."""
    return "probability" if classes else subject.name_column(target)


def name_outputs(ours: Predictions, classes: Sequence[Any], target: str, subject: Subject = GENERIC) -> dict[int, str]:
    """Return the names of the outputs to draw, by place: the number, the class of interest, or the largest classes.

    Parameters
    ----------
    classes
        Classes that the model knows, in the order of its outputs; empty for a number.
    """
    if not classes:
        return {0: name_output(None, target, subject)}
    if len(classes) == 2:
        return {ours.positive: name_output(classes[ours.positive], target, subject)}
    largest = np.argsort(-np.bincount(ours.y_true, minlength=len(classes))[: len(classes)], kind="stable")
    return {int(place): name_output(classes[place], target, subject) for place in largest[:MOST_OUTPUTS]}


def plot_contributions(
    frame: pd.DataFrame, *, scale: str, n_rows: int, confidence: float, most: int, subject: Subject = GENERIC
) -> Figure:
    """Draw how much the columns contribute to predictions on average, with intervals.

    Parameters
    ----------
    frame
        As `labkit.model.explanation.contributions.summarize_contributions` returns it.
    scale
        What contributions are measured in, see `name_output`.
    n_rows
        Number of explained rows.
    """
    title, shown = "Mean size of the contributions", frame.head(most)
    if not len(frame) or not keep_drawable(frame["size"])[0] > 0:
        return make_note(title, f"No column contributes to any of {subject.count_rows(n_rows, kind='holdout')}.")
    first, named = shown.iloc[0], [name_input(str(name), subject) for name in shown["column"]]
    fact = f"{named[0]} moves a prediction by {format_column(shown['size'])[0]} on average, up or down: "
    fact += f"{format_share(first['share'])} of all contributions to {subject.count_rows(n_rows, kind='holdout')}. "
    fact += describe_intervals(shown, confidence, f"over other {subject.rows}")
    if len(frame) > len(shown):
        rest = 1 - float(shown["share"].sum())
        fact += f" Not drawn: {count(len(frame) - len(shown), 'column')} with {format_share(max(rest, 0.0))} of them."
    with style():
        figure, (axes,) = make_figure(title, fact, form="Interval chart", height=0.8 + 0.33 * len(shown))
        axes.barh(range(len(shown)), np.nan_to_num(keep_drawable(shown["size"])), color=BLUE, height=0.62)
        axes.hlines(range(len(shown)), keep_drawable(shown["low"]), keep_drawable(shown["high"]), color=INK, lw=1.6)
        finish_bars(axes, [shorten_name(name, 38) for name in named], f"mean size of contribution ({scale})")
        set_ticks(axes, 6)
        figure.table = shown.assign(column=named)
        return figure


def describe_explained(n_rows: int, n_all: int, subject: Subject = GENERIC) -> str:
    """Return which rows of the holdout are explained, in Markdown.

    >>> describe_explained(200, 55000), describe_explained(110, 110)
    ('200 of 55,000 holdout rows, drawn at random', 'all 110 holdout rows')
    """
    every = subject.count_rows(n_all, kind="holdout")
    return f"all {every}" if n_rows == n_all else f"{n_rows:,} of {every}, drawn at random"


def tabulate_contributions(frame: pd.DataFrame, *, scale: str, subject: Subject = GENERIC) -> pd.DataFrame:
    """Return the columns with what they hold and how much they contribute; parameters as of `plot_contributions`."""
    sizes = [format_interval(one["size"], one["low"], one["high"]) for one in frame.to_dict("records")]
    shares = [format_share(share) for share in frame["share"]]
    meanings = [subject.describe_column(str(name)) for name in frame["column"]]
    table = {"column": frame["column"], "meaning": meanings, f"mean size ({scale})": sizes, "share": shares}
    return pd.DataFrame({name: lines for name, lines in table.items() if name != "meaning" or any(meanings)})


def describe_intervals(frame: pd.DataFrame, confidence: float, over: str) -> str:
    """Describe what the lines at bars are, or why there are none."""
    if frame[["low", "high"]].isna().all(axis=None):
        return "Too few rows are independent of each other for intervals."
    return f"Lines: {format_confidence(confidence)} intervals {over}."


def plot_telling_row(
    telling: TellingRow,
    found: Explanation,
    holdout: pd.DataFrame,
    *,
    facts: Mapping[str, Any],
    subject: Subject = GENERIC,
) -> Figure:
    """Draw why a row of the holdout is predicted as it is; see `plot_explanation`.

    Parameters
    ----------
    holdout
        All rows that the place is among, with the target.
    facts
        Facts of the release, see `labkit.model.release.bundle.Release`.
    """
    row, classes, target, positive = holdout.iloc[telling.place], facts["classes"], facts["target"], facts["positive"]
    place = choose_output(found.prediction, None if positive is None else classes.index(positive)) if classes else 0
    scale = name_output(classes[place] if classes else None, target, subject)
    asked = f" of {subject.format_time(row[PREDICT_AT])}" if PREDICT_AT in holdout else ""
    true = subject.name_class(row[target]) if classes else subject.add_unit(format_number(row[target]), target)
    named = f"Row {holdout.index[telling.place]}{asked}"
    outcome = f"{named}, true {'class' if classes else 'value'}: {true}."
    values = {name: write_input(row[name], name, subject) for name in found.columns}
    return plot_explanation(telling.title, found, place, values, scale=scale, outcome=outcome, subject=subject)


def write_input(value: Any, name: str, subject: Subject = GENERIC) -> str:
    """Return a value of a column in readable form.

    >>> write_input(12.0, "age"), write_input(None, "age"), write_input("a very long name of a colour", "hue")
    ('12', 'missing', 'a very lon… a colour')
    """
    if pd.isna(value):
        return "missing"
    if isinstance(value, pd.Timestamp):
        return subject.format_time(value)
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    return subject.format_value(name, float(value)) if is_number else shorten_name(value, LONGEST_VALUE)


def plot_explanation(
    title: str,
    found: Explanation,
    place: int,
    values: Mapping[str, str],
    *,
    scale: str,
    outcome: str,
    subject: Subject = GENERIC,
) -> Figure:
    """Draw what columns contribute to the prediction of one row, with standard errors.

    Parameters
    ----------
    title
        What the row is an example of.
    place
        Output that is explained, see `labkit.model.explanation.shapley.choose_output`.
    values
        The row's values in readable form, by column.
    scale
        The output's name, see `name_output`.
    outcome
        The row and its true value, as a sentence.
    """
    sizes, errors = found.contributions[:, place], found.errors[:, place]
    order = np.argsort(-np.abs(sizes), kind="stable")
    order = order[sizes[order] != 0]
    kept, rest = (order[:MOST_BARS], order[MOST_BARS:]) if len(order) > MOST_BARS + 1 else (order, order[:0])
    base, end = float(found.base[place]), float(found.prediction[place])
    shown_end, shown_base = format_number(end), format_number(base)
    fact = f"{outcome} The {scale} is {shown_end}; the mean of {count(found.n_background, 'background row')} is "
    if not len(order):
        return make_note(title, f"{fact}{shown_base}, and no column contributes to the difference.")
    fact += f"{shown_base}, and the contributions add up to the difference. Lines: standard errors."
    columns = [found.columns[one] for one in kept]
    names = [f"{name_input(name, subject, as_clock=True)} = {values[name]}" for name in columns]
    bars, lines = [*sizes[kept]], [*errors[kept]]
    if len(rest):
        names, bars, lines = [*names, f"{len(rest)} {OTHERS}"], [*bars, sizes[rest].sum()], [*lines, np.nan]
    labels = [f"+{text}" if bar > 0 else text for bar, text in zip(bars, format_column(bars), strict=True)]
    drawn, reach = keep_drawable(bars), keep_drawable(lines)
    with style():
        figure, (axes,) = make_figure(title, fact, form="Bar chart", height=0.8 + 0.33 * len(names))
        axes.barh(
            range(len(names)), np.nan_to_num(drawn), color=[ORANGE if bar > 0 else BLUE for bar in bars], height=0.62
        )
        axes.hlines(range(len(names)), drawn - reach, drawn + reach, color=INK, linewidth=1.6)
        ends = np.nan_to_num(np.stack([drawn, drawn - reach, drawn + reach]))
        for row, label in enumerate(labels):
            outer = ends[:, row].max() if bars[row] > 0 else ends[:, row].min()
            side: dict[str, Any] = (
                {"ha": "left", "offset": (5, 0)} if bars[row] > 0 else {"ha": "right", "offset": (-5, 0)}
            )
            label_point(axes, label, (outer, row), va="center", **side)
        axes.axvline(0, color=LINE, linewidth=1.2)
        finish_bars(axes, [shorten_name(name, 50) for name in names], f"contribution to the {scale}")
        low, high = min(float(ends.min()), 0.0), max(float(ends.max()), 0.0)
        if high > low:
            axes.set_xlim(low, high)
        set_ticks(axes, 5)
        make_room(figure, axes)
        figure.table = pd.DataFrame({"column": names, "contribution": labels, "standard error": format_column(lines)})
        return figure


def plot_dependences(
    tables: Mapping[str, pd.DataFrame],
    outputs: Mapping[int, str],
    *,
    scale: str,
    n_rows: int,
    confidence: float,
    subject: Subject = GENERIC,
) -> Figure:
    """Draw the mean prediction over the values of columns, a panel each, all on the same scale.

    Parameters
    ----------
    tables
        As `labkit.model.explanation.partial_dependence.compute_dependences` returns them.
    outputs
        Name of each output to draw, by its place.
    scale
        What is predicted, for the axis.
    """
    title = "Mean prediction by the value of a column"
    if not tables:
        return make_note(title, "No column that contributes has several values that it could be set to.")
    kept = dict(list(outputs.items())[:MOST_OUTPUTS])
    ranges = {name: measure_range(table, kept) for name, table in tables.items()}
    widest = max(ranges, key=lambda name: ranges[name])
    fact = f"With {name_input(widest, subject)} alone set to one value for all of "
    fact += f"{subject.count_rows(n_rows, kind='holdout')}, the mean prediction changes by up to "
    fact += f"{format_number(ranges[widest])}. Bands and lines: {format_confidence(confidence)} intervals of the "
    fact += "difference from the mean prediction of the same rows as they are."
    n_lines = -(-len(tables) // 2)
    colors = dict(zip(kept.values(), PALETTE, strict=False)) if len(kept) > 1 else dict.fromkeys(kept.values(), BLUE)
    with style():
        figure, panels = make_figure(
            title,
            fact,
            form="Line charts",
            height=0.4 + 2.3 * n_lines,
            grid=(n_lines, min(2, len(tables))),
            sharey=True,
        )
        for axes, (name, table) in zip(panels, tables.items(), strict=False):
            for output, called in kept.items():
                draw_dependence(axes, table[table["output"] == output], colors[called], name, subject)
            axes.set_title(shorten_name(subject.name_briefly(name, 30, as_clock=True), 30))
        for axes in panels[len(tables) :]:
            axes.remove()
        for axes in panels[:: min(2, len(tables))]:
            axes.set_ylabel(f"mean {scale if len(scale) <= LONGEST_VALUE else 'prediction'}")
        if len(kept) > 1:
            add_legend(figure, colors)
        parts = [table.assign(column=name, output=table["output"].map(kept)) for name, table in tables.items()]
        whole = pd.concat([part.astype({"value": object}) for part in parts], ignore_index=True).dropna(subset="output")
        order = ["column", "value", *(["output"] if len(kept) > 1 else []), "mean", "low", "high"]
        figure.table = whole[order]
        return figure


def measure_range(table: pd.DataFrame, outputs: Mapping[int, str]) -> float:
    """Return by how much the mean prediction of an output changes at most over the values of a column."""
    drawn = table[table["output"].isin(list(outputs))]
    ends = drawn.groupby("output")["mean"].agg(["min", "max"])
    return float((ends["max"] - ends["min"]).max())


def draw_dependence(axes: Axes, table: pd.DataFrame, color: str, name: str, subject: Subject) -> None:
    """Draw the mean prediction over numbers as a line with a band, over other values as points with lines."""
    mean, low, high = (keep_drawable(table[one]) for one in ("mean", "low", "high"))
    values = table["value"].tolist()
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        places = keep_drawable(values)
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(places, mean, "o-", color=color, markersize=4)
        if subject.is_clock(name):
            set_clock_ticks(axes)
        elif len(values) < FEWEST_TICKED:
            axes.set_xticks(places)
        else:
            set_ticks(axes, 4)
        return
    places = np.arange(len(values))
    axes.vlines(places, low, high, color=color, linewidth=2)
    axes.plot(places, mean, "o", color=color, markersize=7)
    axes.set_xticks(places, [shorten_name(value, 12) for value in values], rotation=0 if len(values) < 5 else 35)
    axes.margins(x=0.1)


def summarize_reliance(importance: pd.DataFrame, *, subject: Subject = GENERIC) -> str:
    """Return which columns contribute most and their share of all contributions; empty if none contributes."""
    shown = importance[importance["size"] > 0].head(3)
    if not len(shown):
        return "No column contributes to a prediction: the model predicts the same for every row."
    named = [
        f"{escape(name_input(line['column'], subject))} ({format_share(line['share'])})"
        for line in shown.to_dict("records")
    ]
    return f"Of the raw columns, predictions depend most on {join_names(named)}: shares of all contributions."


def summarize_dependences(
    tables: Mapping[str, pd.DataFrame], outputs: Mapping[int, str], *, subject: Subject = GENERIC
) -> str:
    """Return by how much the mean prediction changes at most with one column alone; empty without any."""
    if not tables:
        return ""
    ranges = {name: measure_range(table, outputs) for name, table in tables.items()}
    widest = max(ranges, key=lambda name: ranges[name])
    predicted = next(iter(outputs.values())) if len(outputs) == 1 else "probability of a class"
    moved = f"changes by up to {format_number(ranges[widest])}"
    return f"With {escape(name_input(widest, subject))} alone, the mean {predicted} {moved}."
