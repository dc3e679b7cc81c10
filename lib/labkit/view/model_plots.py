"""Plots of models: the leaderboard, metrics with intervals, and what predictions get right and wrong.

One function serves both tasks wherever possible.
"""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.curves import group_alike
from labkit.model.evaluation.metrics import GREATER_IS_BETTER, is_greater_better
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import GENERIC, Subject
from labkit.params.training import DUMMY
from labkit.view.bins import find_edges
from labkit.view.curve_plots import COLORS, NO_PREDICTION, find_predicted, list_codes, take_predicted
from labkit.view.curve_plots import plot_curves as plot_curves
from labkit.view.prose import (
    MOST_FOLDED,
    count,
    format_column,
    format_confidence,
    format_number,
    format_share,
    join_names,
    shorten_name,
)
from labkit.view.style import (
    BLACK,
    BLUE,
    GREY,
    GROUND,
    MUTED,
    ORANGE,
    SEQUENTIAL,
    WHITE,
    Axes,
    Figure,
    find_ends,
    finish_bars,
    keep_drawable,
    label_point,
    make_figure,
    make_note,
    plot_points,
    set_ticks,
    style,
)

NOT_COMPUTED = Interval(np.nan, np.nan, np.nan)
MOST_POINTS = 3000
MOST_CLASSES = 30
"""Classes of a confusion matrix; if there are more, the least frequent ones are combined."""
MOST_TICK_CHARACTERS = 60
"""Characters of all names that fit side by side below a confusion matrix."""


def plot_leaderboard(frame: pd.DataFrame, metric: str) -> Figure:
    """Draw each candidate's mean over the folds with its standard deviation, best on top, beside the dummy.

    Parameters
    ----------
    frame
        The leaderboard as `labkit.model.training.comparison.compare` returns it.
    """
    ranked = frame[frame["error"] == ""]
    if ranked.empty:
        return make_note(f"Candidates by {metric} in cross-validation", "No candidate could be fitted.")
    names, means = list(ranked["model"]), keep_drawable(ranked[metric])
    deviations = np.nan_to_num(keep_drawable(ranked[f"{metric}_std"]))
    better = "to the right" if is_greater_better(metric) else "to the left"
    labels = format_column(means)
    found = f"With its defaults, {names[0]} has {labels[0]}."
    if len(names) > 1:
        found = f"All with their defaults; best: {names[0]} with {labels[0]}."
    fact = f"{found} Each line is one standard deviation over the folds to either side; better is {better}."
    if failed := list(frame.loc[frame["error"] != "", "model"]):
        fact += f" Failed: {join_names(failed)}."
    with style():
        title = f"{count(len(names), 'candidate')} by {metric} in cross-validation"
        figure, (axes,) = make_figure(title, fact, form="Point chart", height=0.8 + 0.36 * len(names))
        for row, (name, mean, deviation) in enumerate(zip(names, means, deviations, strict=True)):
            if name != DUMMY:
                interval = Interval(mean, mean - deviation, mean + deviation)
                plot_interval(axes, row, interval, color=ORANGE if row == 0 else BLUE, label=labels[row])
        axes.margins(x=0.12)
        if DUMMY in names:
            plot_dummy(axes, names.index(DUMMY), means[names.index(DUMMY)], label=labels[names.index(DUMMY)])
        finish_bars(axes, names, metric)
        set_ticks(axes, 6, end=find_end(metric))
        figure.table = pd.DataFrame({"candidate": names, metric: means, "standard deviation": deviations})
        return figure


def find_end(metric: str) -> float:
    """Return the largest possible value of a metric: 1 for built-in ones of which greater is better, else infinity."""
    return 1.0 if metric in GREATER_IS_BETTER else np.inf


def plot_dummy(axes: Axes, row: int, mean: float, *, label: str) -> None:
    """Draw the dummy's metric, or, if it would compress all others, write on which side it lies."""
    low, high = axes.get_xlim()
    if np.isnan(mean):
        plot_interval(axes, row, Interval(mean, mean, mean), color=MUTED, label=label)
        return
    if low - (high - low) <= mean <= high + (high - low):
        axes.axvline(mean, color=MUTED, linestyle="--", linewidth=1.2)
        plot_interval(axes, row, Interval(mean, mean, mean), color=MUTED, label=label)
        return
    is_left = mean < low
    axes.set_xlim(low, high)
    arrow = f"← {label}" if is_left else f"{label} →"
    axes.text(low if is_left else high, row, arrow, va="center", ha="left" if is_left else "right", color=MUTED)


def plot_interval(axes: Axes, row: int, interval: Interval, *, color: str, label: str) -> None:
    """Draw a number as a labelled point on its interval; a dash if it cannot be drawn."""
    value, *ends = keep_drawable([interval.value, interval.low, interval.high])
    if np.isnan(value):
        axes.annotate(label, (0.01, row), xycoords=("axes fraction", "data"), va="center", color=MUTED)
        return
    axes.plot(ends, [row, row], color=color, linewidth=2.5, solid_capstyle="round")
    axes.plot(value, row, "o", color=color, markersize=8)
    label_point(axes, label, (value, row))


def plot_intervals(
    models: Mapping[str, Mapping[str, Interval]],
    *,
    n_rows: int,
    confidence: float,
    blocks: Blocks,
    subject: Subject = GENERIC,
) -> Figure:
    """Draw every metric with its interval, each on its own scale.

    Parameters
    ----------
    models
        Metrics by model, the chosen one first: names are those of `COLORS`.
    blocks
        What was resampled for the intervals.
    """
    first = next(iter(models.values()))
    drawable = {name: interval for name, interval in first.items() if not np.isnan(keep_drawable([interval.value]))[0]}
    title = f"The model against {join_names(list(models)[1:])}"
    if not drawable:
        return make_note(title, f"No metric can be computed on {subject.count_rows(n_rows, kind='holdout')}.")
    fact = f"Measured on {subject.count_rows(n_rows, kind='holdout')}; "
    fact += f"{format_confidence(confidence)} intervals, resampling {blocks}. Arrows point to better."
    if missing := [name for name in first if name not in drawable]:
        fact += f" Not drawn, because they cannot be computed: {join_names(missing)}."
    rows = -(-len(drawable) // 2)
    with style():
        height = (0.55 + 0.4 * len(models)) * rows + 0.2
        figure, panels = make_figure(title, fact, form="Interval chart", height=height, grid=(rows, 2))
        for place, (axes, name) in enumerate(zip(panels, drawable, strict=False)):
            each = {model: found.get(name, NOT_COMPUTED) for model, found in models.items()}
            labels = format_column(interval.value for interval in each.values())
            for row, ((model, interval), label) in enumerate(zip(each.items(), labels, strict=True)):
                plot_interval(axes, row, interval, color=COLORS[model], label=label)
            finish_bars(axes, list(models) if place % 2 == 0 else [""] * len(models), "")
            axes.set_ylim(len(models) - 0.5, -0.9)
            axes.margins(x=0.15)
            set_ticks(axes, 4, end=find_end(name))
            axes.set_title(f"{name} {'↑' if is_greater_better(name) else '↓'}")
        for axes in panels[len(drawable) :]:
            axes.set_visible(False)
        figure.table = pd.DataFrame(
            [
                (name, model, found[name].value, found[name].low, found[name].high)
                for name in drawable
                for model, found in models.items()
                if name in found
            ],
            columns=["metric", "model", "value", "low", "high"],
        )
        stated = (f"{name} {format_number(interval.value)}" for name, interval in drawable.items())
        figure.set_label(f"{figure.get_label()} {join_names(stated, most=10)}.")
        return figure


def plot_calibration(predictions: Predictions, name: str, *, blocks: Blocks, subject: Subject = GENERIC) -> Figure:
    """Draw mean true values against mean predictions, in ten groups of rows with similar predictions.

    Beside it, a histogram of the predictions.

    Parameters
    ----------
    blocks
        Which rows are not independent of each other; standard errors follow from it.
    """
    title = "Calibration curve" if predictions.classes else "True values by prediction"
    known = np.flatnonzero(find_predicted(predictions))
    if not len(known):
        return make_note(title, NO_PREDICTION)
    predictions, blocks = predictions.take(known), blocks.take(known)
    if predictions.classes:
        code = next(iter(list_codes(predictions)), predictions.positive)
        predicted, true = predictions.y_proba[:, code], (predictions.y_true == code).astype(float)
        predicted_name, true_name = (
            f"predicted probability of {subject.name_class(predictions.classes[code])}",
            "observed share",
        )
    else:
        predicted, true = predictions.y_pred, predictions.y_true
        title_of = subject.name_column(name)
        predicted_name, true_name = f"predicted {title_of}", f"{title_of}, mean of the group"
    groups = pd.DataFrame({"prediction": predicted, "true": true}).groupby(group_alike(predicted))
    means, sizes = groups.mean(), groups.size()
    deviations = [blocks.take(np.asarray(rows)).compute_error(true[rows]) for rows in groups.indices.values()]
    error = float(np.average(np.abs(means["true"] - means["prediction"]), weights=sizes))
    error = 0.0 if error < 1e-9 * np.abs(predicted).max() else error
    most = len(predictions.classes) > 2
    fact = f"Of {subject.name_class(predictions.classes[code])}, the most frequent class. " if most else ""
    fact += f"On average a group's mean true value is {format_number(error)} away from its prediction. On the "
    fact += "dashed line they are equal; lines are one standard error."
    with style():
        options = {"width_ratios": [3, 2]}
        figure, axes = make_figure(title, fact, form="Curve and histogram", height=3.8, grid=(1, 2), **options)
        margin = np.nan_to_num(keep_drawable(deviations))
        low, high = find_ends(means["prediction"], means["true"] - margin, means["true"] + margin)
        reach = 0.04 * (high - low) or 0.5
        axes[0].plot([low, high], [low, high], color=MUTED, linestyle="--", linewidth=1.4)
        axes[0].errorbar(means["prediction"], means["true"], margin, fmt="o-", color=ORANGE, ecolor=GREY, markersize=7)
        axes[0].set(xlabel=textwrap.fill(predicted_name, 44), ylabel=textwrap.fill(true_name, 36))
        axes[0].set(xlim=(low - reach, high + reach), ylim=(low - reach, high + reach))
        axes[0].set_aspect("equal", adjustable="box")
        axes[1].hist(predicted, list(find_edges(predicted, 20)), color=BLUE, edgecolor=GROUND)
        axes[1].set(title=f"Predictions of all {subject.rows}", xlabel="prediction", ylabel=subject.rows)
        for panel in axes:
            set_ticks(panel, 4)
        figure.table = means.set_axis(["mean prediction", "mean true value"], axis=1)
        figure.table = figure.table.assign(**{"standard error": np.array(deviations), subject.rows: sizes.to_numpy()})
        return figure


def plot_mistakes(predictions: Predictions, name: str, *, subject: Subject = GENERIC) -> Figure:
    """Draw predictions against true values: a confusion matrix, or points and their errors."""
    known = take_predicted(predictions)
    if not len(known.y_true):
        return make_note("Predictions and true values", NO_PREDICTION)
    with style():
        return plot_confusion(known, subject) if known.classes else plot_residuals(known, name, subject)


def plot_confusion(predictions: Predictions, subject: Subject) -> Figure:
    """Draw the confusion matrix."""
    sizes = np.bincount(np.concatenate([predictions.y_true, predictions.y_pred]), minlength=len(predictions.classes))
    shown = np.sort(np.argsort(-sizes, kind="stable")[:MOST_CLASSES])
    classes = [shorten_name(subject.name_class(predictions.classes[code]), 16) for code in shown]
    places = np.full(len(predictions.classes), len(shown))
    places[shown] = np.arange(len(shown))
    if len(shown) < len(predictions.classes):
        classes.append(f"{len(predictions.classes) - len(shown)} others")
    table = sk.confusion_matrix(places[predictions.y_true], places[predictions.y_pred], labels=range(len(classes)))
    wrong = int((predictions.y_pred != predictions.y_true).sum())
    rows = subject.count_rows(len(predictions.y_pred))
    fact = f"{count(wrong, 'mistake').capitalize()} in {rows}; each {subject.row} is assigned its most probable class."
    height = 1.2 + max(0.45 * len(classes), 1.2)
    figure, (axes,) = make_figure("Confusion matrix", fact, form="Heat map", height=height)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1.25, aspect="auto")
    for row, column in np.ndindex(*table.shape):
        label = f"{table[row, column]:,}"
        if len(classes) <= 4 and table[row].any():
            label += f"  ({format_share(shares[row, column])})"
        color = WHITE if shares[row, column] > 0.45 else BLACK
        axes.text(
            column, row, label, ha="center", va="center", color=color, weight="bold" if row == column else "normal"
        )
    is_wide = sum(map(len, classes)) > MOST_TICK_CHARACTERS
    axes.set_xticks(range(len(classes)), classes, rotation=90 if is_wide else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if table.size <= MOST_FOLDED:
        figure.table = pd.DataFrame(
            [(classes[row], classes[column], int(table[row, column])) for row, column in np.ndindex(*table.shape)],
            columns=["true class", "predicted class", subject.rows],
        )
    return figure


def plot_residuals(predictions: Predictions, name: str, subject: Subject) -> Figure:
    """Draw predictions against true values, and the errors as a histogram."""
    errors = predictions.y_pred - predictions.y_true
    high, lean = float((errors > 0).mean()), float(errors.mean())
    fact = f"{format_share(high)} of the predictions are too high; the average one is {format_number(abs(lean))} too "
    fact += f"{'high' if lean > 0 else 'low'}. On the dashed line, prediction and true value agree."
    options = {"width_ratios": [3, 2]}
    figure, axes = make_figure(
        "Predictions and true values", fact, form="Scatter plot", height=3.3, grid=(1, 2), **options
    )
    step = len(errors) // MOST_POINTS + 1
    y_true, y_pred = predictions.y_true[::step], predictions.y_pred[::step]
    ends = find_ends(y_true, y_pred)
    axes[0].plot(ends, ends, color=MUTED, linestyle="--", linewidth=1.4)
    plot_points(axes[0], y_true, y_pred, size=5)
    title = subject.add_unit(name, name)
    axes[0].set(title=f"Each {subject.row}", xlabel=f"true {title}", ylabel=f"predicted {title}")
    n_bins = min(24, max(8, round(len(errors) ** 0.5)))
    sizes, edges, _ = axes[1].hist(errors, list(find_edges(errors, n_bins)), color=BLUE, edgecolor=GROUND)
    axes[1].axvline(0, color=ORANGE)
    axes[1].set(title="Errors", xlabel=subject.add_unit("predicted − true", name), ylabel=subject.rows)
    set_ticks(axes[1], 4)
    figure.table = pd.DataFrame({"error from": edges[:-1], "to": edges[1:], subject.rows: sizes})
    return figure
