"""Plots of the holdout beyond a single metric: costs, periods, slices and feature importance.

Plots of the predictions themselves are in `labkit.view.model_plots`.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.importance import N_SHUFFLES
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.savings import describe_declared_costs, name_passive
from labkit.model.evaluation.threshold import Outcome, compute_cost_curve, compute_costs, describe_flagged
from labkit.params.evaluation import Costs
from labkit.params.subject import GENERIC, Subject
from labkit.view.curve_plots import COLORS, NO_PREDICTION, take_predicted
from labkit.view.model_plots import plot_interval
from labkit.view.prose import (
    count,
    escape,
    format_column,
    format_confidence,
    format_interval,
    format_number,
    shorten_name,
)
from labkit.view.style import (
    BLUE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    Figure,
    add_legend,
    find_ends,
    finish_bars,
    keep_drawable,
    label_point,
    make_figure,
    make_note,
    set_ticks,
    style,
)

MOST_POINTS = 500
LABEL_HEIGHT = 0.12
"""Height of a label beside a cost curve, as a fraction of the largest cost."""
LABEL_ENDS = {"left": (0.0, 0.35), "right": (0.65, 1.0)}
"""Thresholds that a label at either end covers."""
LONGEST_SLICE, MOST_LINES = 44, 3
"""Characters of a line of a slice's label, and lines of one condition."""


def plot_costs(predictions: Predictions, outcome: Outcome, costs: Costs, *, subject: Subject = GENERIC) -> Figure:
    """Draw what each threshold would have cost on these rows, and the threshold chosen before."""
    predictions, title = take_predicted(predictions), "Cost by threshold"
    if not len(predictions.y_true):
        return make_note(title, NO_PREDICTION)
    full = compute_cost_curve(predictions, costs)
    curve = full.iloc[np.unique(np.linspace(0, len(full) - 1, MOST_POINTS).round().astype(int))]
    plain = min(outcome.always_yes, outcome.always_no)
    unit = f" {costs.unit}" if costs.unit else ""
    paid, passive, least = format_column([outcome.cost.value, plain, full["cost"].min()])
    fact = f"Acting from {format_number(outcome.threshold)} on costs {paid}{unit} per {subject.row}; "
    fact += f"{name_passive(subject)}, costs {passive}. The lowest cost of any threshold on these "
    fact += f"{subject.rows} is {least}."
    with style():
        figure, (axes,) = make_figure(title, fact, form="Cost curve", height=3.2)
        axes.step(curve["threshold"], keep_drawable(curve["cost"]), where="pre", color=BLUE)
        axes.axvline(outcome.threshold, color=MUTED, linestyle="--", linewidth=1.4)
        cost = keep_drawable([compute_costs(predictions, outcome.threshold, costs).mean()])
        axes.plot([outcome.threshold], cost, "o", color=ORANGE, ms=9)
        levels = keep_drawable([outcome.always_yes, outcome.always_no])
        for name, level in zip((f"acting on every {subject.row}", "acting on none"), levels, strict=True):
            if not np.isnan(level):
                axes.axhline(level, color=MUTED, linestyle=":", linewidth=1.4)
                x, ha = find_free_end(curve, level)
                label_point(axes, name, (x, level), ha=ha, offset=(0, 3), color=MUTED)
        axes.set(xlabel="threshold (predicted probability from which one acts)")
        axes.set(ylabel=f"cost per {subject.row}{f' ({costs.unit})' if costs.unit else ''}")
        axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.12 * max(find_ends(levels, curve["cost"])[1], 1e-12)))
        set_ticks(axes, 6)
        tenths = np.searchsorted(full["threshold"], np.arange(11) / 10).clip(max=len(full) - 1)
        figure.table = full.iloc[np.unique(tenths)][["threshold", "cost"]]
        return figure


def find_free_end(curve: pd.DataFrame, level: float) -> tuple[float, str]:
    """Return where on the horizontal axis a label above a level hides nothing of a cost curve, and its alignment.

    Parameters
    ----------
    curve
        As `labkit.model.evaluation.threshold.compute_cost_curve` returns it.
    """
    above = curve["cost"].between(level, level + LABEL_HEIGHT * curve["cost"].max(), inclusive="neither")
    hidden = {end: above[curve["threshold"].between(*span)].sum() for end, span in LABEL_ENDS.items()}
    return (0.0, "left") if hidden["left"] < hidden["right"] else (1.0, "right")


def plot_periods(frame: pd.DataFrame, metric: str, *, unit: str, confidence: float) -> Figure:
    """Draw a metric period by period, and below it the mean prediction and the mean true value.

    Parameters
    ----------
    frame
        As `labkit.model.evaluation.by_period.compute_by_period` returns it, its first model named `model`.
    """
    title = f"{unit.capitalize()} by {unit}"
    numbers = [str(name) for name in frame if name not in ("period", "rows")]
    frame = frame.assign(**{name: keep_drawable(frame[name]) for name in numbers})
    known = frame.dropna(subset="model")
    if known.empty:
        return make_note(title, f"{metric} cannot be computed in any {unit}.")
    ranked = known.sort_values("model", ascending=not is_greater_better(metric), kind="stable")
    (best, most), (worst, least) = ranked[["period", "model"]].iloc[[0, -1]].to_numpy().tolist()
    first, last = format_column([most, least])
    fact = f"Best in the {unit} {best} with {metric} {first}, worst in {worst} with {last}. "
    if known[["low", "high"]].notna().all(axis=1).any():
        fact += f"Lines to either side: {format_confidence(confidence)} intervals of the model."
    else:
        fact += f"Within one {unit} too few rows are independent of each other for an interval."
    x = np.arange(len(frame))
    with style():
        figure, axes = make_figure(title, fact, form="Two line charts", height=4.6, grid=(2, 1), sharex=True)
        axes[0].vlines(x, frame["low"], frame["high"], color=ORANGE, linewidth=2)
        for name, color in COLORS.items():
            if name in frame and (name != "dummy" or is_near(frame, "dummy")):
                axes[0].plot(x, frame[name], "o-", color=color, label=name, markersize=6)
        axes[0].set(ylabel=f"{metric} {'↑' if is_greater_better(metric) else '↓'}")
        axes[1].plot(x, frame["true"], "o-", color=INK, markersize=6)
        axes[1].plot(x, frame["prediction"], "s--", color=ORANGE, markersize=6)
        axes[1].set(ylabel="mean", title="Mean true value (circles) and mean prediction (squares)")
        slant: dict[str, object] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(x) > 8 else {}
        axes[1].set_xticks(x, frame["period"], **slant)
        axes[1].margins(x=0.06, y=0.2)
        add_legend(figure, {name: color for name, color in COLORS.items() if name in frame}, marks={})
        figure.table = frame
        return figure


def is_near(frame: pd.DataFrame, name: str) -> bool:
    """Return whether a model's line can be drawn without squeezing the others together."""
    low, high = find_ends(frame["low"], frame["high"], frame["model"])
    reach = 3 * max(high - low, 1e-12)
    return bool(frame[name].between(low - reach, high + reach).all())


def plot_slices(frame: pd.DataFrame, *, loss: str, confidence: float, subject: Subject = GENERIC) -> Figure:
    """Draw how much larger the loss is in each slice than elsewhere, with its interval.

    Parameters
    ----------
    frame
        As `labkit.model.evaluation.slices.find_worst_slices` returns it.
    loss
        Description of the loss.
    """
    title = "Where the error is larger than elsewhere"
    if frame.empty:
        return make_note(title, f"No group of {subject.rows} stands out.")
    first = frame.iloc[0]
    fact = f"Worst: {first['slice']}, with {subject.count_rows(int(first['rows']))} and a {loss} of "
    fact += "{} against {} elsewhere.".format(*format_column([first["loss"], first["elsewhere"]]))
    excess = (frame["loss"] - frame["elsewhere"]).tolist()
    intervals = [Interval(*ends) for ends in zip(excess, frame["low"], frame["high"], strict=True)]
    colors = [ORANGE] + [BLUE] * (len(frame) - 1)
    unit = f"excess {loss}, with {format_confidence(confidence)} interval"
    figure = draw_slices(title, fact, frame["slice"].tolist(), intervals, colors=colors, unit=unit)
    figure.table = frame[["slice", "rows", "loss", "elsewhere", "low", "high"]]
    return figure


def draw_slices(
    title: str, fact: str, slices: Sequence[str], intervals: Sequence[Interval], *, colors: Sequence[str], unit: str
) -> Figure:
    """Draw a difference and its interval for each slice, from the top down.

    Parameters
    ----------
    unit
        What the x axis shows.
    """
    names = [wrap_slice(name) for name in slices]
    height = 0.9 + sum(0.25 + 0.2 * len(name.splitlines()) for name in names)
    labels = format_column([one.value for one in intervals])
    with style():
        figure, (axes,) = make_figure(title, fact, form="Interval chart", height=height)
        for row, (interval, color, label) in enumerate(zip(intervals, colors, labels, strict=True)):
            plot_interval(axes, row, interval, color=color, label=label)
        axes.axvline(0, color=LINE, linewidth=1.4)
        finish_bars(axes, names, unit)
        axes.margins(x=0.1)
        set_ticks(axes, 5)
        return figure


def wrap_slice(name: str) -> str:
    """Return the conditions of a slice, one a line and none cut unless it is very long.

    >>> wrap_slice("size ≥ 3 and colour = red")
    'size ≥ 3\\nand colour = red'
    """
    conditions = [shorten_name(one, MOST_LINES * LONGEST_SLICE) for one in name.split(" and ")]
    return "\nand ".join(textwrap.fill(one, LONGEST_SLICE) for one in conditions)


def plot_importance(
    frame: pd.DataFrame, metric: str, *, n_rows: int, most: int, noun: str = "feature", subject: Subject = GENERIC
) -> Figure:
    """Draw how much the metric gets worse without each of the most important features or families.

    Parameters
    ----------
    frame
        As `labkit.model.evaluation.importance.compute_importance` returns it.
    noun
        What is shuffled: `feature` or `family`.
    """
    several = "families" if noun == "family" else f"{noun}s"
    title = f"Permutation importance of {several}"
    shown = frame.head(most).assign(**{name: keep_drawable(frame[name].head(most)) for name in ("loss", "low", "high")})
    if shown["loss"].isna().all():
        return make_note(title, f"The importance for {metric} cannot be computed for any {noun}.")
    felt = int((frame["low"] > 0).sum())
    first = f"the family {shown['column'].iloc[0]}" if noun == "family" else shown["column"].iloc[0]
    fact = f"With {first} shuffled, {metric} gets worse by {format_column(shown['loss'])[0]}, measured "
    fact += f"on {subject.count_rows(n_rows, kind='holdout')}. "
    fact += f"{felt} of {count(len(frame), noun, several)} {'matters' if felt == 1 else 'matter'} "
    fact += f"beyond random variation. Lines show the spread over {N_SHUFFLES} shuffles of these {subject.rows} only, "
    fact += "not over others."
    if noun == "family":
        fact += (
            " The columns of a family are shuffled by the same permutation, so relations among them remain: a family "
        )
        fact += "can matter less than one of its columns."
    word = "drop" if is_greater_better(metric) else "rise"
    with style():
        figure, (axes,) = make_figure(title, fact, form="Interval chart", height=0.8 + 0.33 * len(shown))
        figure.table = shown[["column", "loss", "low", "high"]]
        axes.barh(range(len(shown)), shown["loss"].fillna(0), color=BLUE, height=0.62)
        axes.hlines(range(len(shown)), shown["low"], shown["high"], color=INK, linewidth=1.6)
        axes.axvline(0, color=LINE, linewidth=1.2)
        finish_bars(
            axes,
            [shorten_name(name) for name in shown["column"]],
            f"{word} in {metric} when shuffled (line: spread over shuffles)",
        )
        set_ticks(axes, 6)
        return figure


def describe_threshold(
    outcome: Outcome | None, predictions: Predictions, *, subject: Subject = GENERIC, costs: Costs | None = None
) -> str:
    """Describe what a threshold does on the holdout, or why none was chosen and what is done instead."""
    if outcome is None and len(predictions.classes) != 2:
        return "There is no threshold to choose: the target does not have two classes."
    if outcome is None:
        n_taken, n_true = (
            int((codes == predictions.positive).sum()) for codes in (predictions.y_pred, predictions.y_true)
        )
        return (
            f"There is no threshold to choose: no costs are declared (`evaluation.costs`). Each {subject.row} is "
            f"assigned its most probable class: {n_taken:,} of {subject.count_rows(len(predictions.y_true))} are "
            f"predicted as {escape(subject.name_class(predictions.classes[predictions.positive]))}, {n_true:,} belong "
            "to it."
        )
    flagged = describe_flagged(outcome.to_dict(), subject, positive=predictions.classes[predictions.positive])
    return (
        f"Acting from **{format_number(outcome.threshold)}** on {flagged}. "
        f"{describe_acting(outcome, subject=subject, costs=costs)}"
        f"{f' {describe_declared_costs(costs)}' if costs else ''}"
    )


def describe_acting(outcome: Outcome | None, *, subject: Subject = GENERIC, costs: Costs | None = None) -> str:
    """Describe what acting from a threshold on saves; empty without a threshold."""
    if outcome is None:
        return ""
    saving, unit = outcome.saving, f" {costs.unit}" if costs and costs.unit else ""
    span = f"{format_interval(saving.value, saving.low, saving.high)}{unit} per {subject.row}"
    shown = f"saves {span}" if saving.low > 0 else f"is not shown to save anything: {span}"
    threshold = format_number(outcome.threshold)
    return f"Acting from a probability of {threshold} on {shown} compared with {name_passive(subject)}."
