"""Plots of models: the leaderboard, metrics with intervals, and what predictions get right and wrong.

One function serves both tasks wherever possible.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.curves import group_alike
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import GENERIC, Subject
from labkit.params.training import DUMMY
from labkit.view.prose import count, format_confidence, format_number, format_share, join_names, shorten_name
from labkit.view.style import (
    BLUE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PALETTE,
    SEQUENTIAL,
    Axes,
    Figure,
    add_legend,
    find_ends,
    finish_bars,
    keep_drawable,
    make_figure,
    make_note,
    set_ticks,
    spread_edges,
    style,
)

NOT_COMPUTED = Interval(np.nan, np.nan, np.nan)
COLORS = {"model": ORANGE, "plain LightGBM": BLUE, DUMMY: MUTED}
"""Colours of the model and of the baselines in every plot of an evaluation."""
MOST_POINTS = 3000
MOST_CLASSES = 30
"""Classes of a confusion matrix; if there are more, the least frequent ones are combined."""
MOST_TICK_CHARACTERS = 60
"""Characters of all names that fit side by side below a confusion matrix."""
NO_PREDICTION = "There is no row with a true value and a prediction that can be drawn."


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
    fact = f"Best: {names[0]} with {format_number(means[0])}. Each line is one standard deviation over the folds to "
    fact += f"either side; better is {better}."
    if failed := list(frame.loc[frame["error"] != "", "model"]):
        fact += f" Failed: {join_names(failed)}."
    with style():
        title = f"{count(len(names), 'candidate')} by {metric} in cross-validation"
        figure, (axes,) = make_figure(title, fact, form="Point chart", height=0.8 + 0.36 * len(names))
        for row, (name, mean, deviation) in enumerate(zip(names, means, deviations, strict=True)):
            if name != DUMMY:
                interval = Interval(mean, mean - deviation, mean + deviation)
                plot_interval(axes, row, interval, color=ORANGE if row == 0 else BLUE)
        axes.margins(x=0.12)
        if DUMMY in names:
            plot_dummy(axes, names.index(DUMMY), means[names.index(DUMMY)])
        finish_bars(axes, names, metric)
        set_ticks(axes, 6, end=find_end(metric))
        return figure


def find_end(metric: str) -> float:
    """Return the upper limit of a metric: 1 if greater is better."""
    return 1.0 if is_greater_better(metric) else np.inf


def plot_dummy(axes: Axes, row: int, mean: float) -> None:
    """Draw the dummy's metric, or, if it would compress all others, write on which side it lies."""
    low, high = axes.get_xlim()
    if np.isnan(mean):
        plot_interval(axes, row, Interval(mean, mean, mean), color=MUTED)
        return
    if low - (high - low) <= mean <= high + (high - low):
        axes.axvline(mean, color=MUTED, linestyle="--", linewidth=1.2)
        plot_interval(axes, row, Interval(mean, mean, mean), color=MUTED)
        return
    is_left = mean < low
    label = f"← {format_number(mean)}" if is_left else f"{format_number(mean)} →"
    axes.set_xlim(low, high)
    axes.text(low if is_left else high, row, label, va="center", ha="left" if is_left else "right", color=MUTED)


def plot_interval(axes: Axes, row: int, interval: Interval, *, color: str) -> None:
    """Draw a number as a labelled point on its interval; a dash if it cannot be drawn."""
    value, *ends = keep_drawable([interval.value, interval.low, interval.high])
    if np.isnan(value):
        axes.annotate(
            format_number(interval.value), (0.01, row), xycoords=("axes fraction", "data"), va="center", color=MUTED
        )
        return
    axes.plot(ends, [row, row], color=color, linewidth=3, solid_capstyle="round", alpha=0.5)
    axes.plot(value, row, "o", color=color, markersize=8)
    axes.annotate(format_number(value), (value, row), (0, 8), textcoords="offset points", ha="center", size=10)


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
    fact = f"Points: measured on {subject.count_rows(n_rows, kind='holdout')}. "
    fact += f"Lines: {format_confidence(confidence)} intervals, resampling {blocks}. ↑ more is better, ↓ less."
    if missing := [name for name in first if name not in drawable]:
        fact += f" Not drawn, because they cannot be computed: {join_names(missing)}."
    rows = -(-len(drawable) // 2)
    with style():
        height = (0.55 + 0.4 * len(models)) * rows + 0.2
        figure, panels = make_figure(title, fact, form="Interval chart", height=height, grid=(rows, 2))
        for place, (axes, name) in enumerate(zip(panels, drawable, strict=False)):
            for row, (model, found) in enumerate(models.items()):
                plot_interval(axes, row, found.get(name, NOT_COMPUTED), color=COLORS[model])
            finish_bars(axes, list(models) if place % 2 == 0 else [""] * len(models), "")
            axes.set_ylim(len(models) - 0.5, -0.9)
            axes.margins(x=0.15)
            set_ticks(axes, 4, end=find_end(name))
            axes.set_title(f"{name} {'↑' if is_greater_better(name) else '↓'}")
        for axes in panels[len(drawable) :]:
            axes.set_visible(False)
        stated = (f"{name} {format_number(interval.value)}" for name, interval in drawable.items())
        figure.set_label(f"{figure.get_label()} {join_names(stated, most=10)}.")
        return figure


def plot_curves(models: Mapping[str, Predictions], *, name: str = "", subject: Subject = GENERIC) -> Figure:
    """Draw ROC and precision-recall curves, or the cumulative distribution of errors.

    Parameters
    ----------
    models
        Predictions by model, the chosen one first: names are those of `COLORS`.
    name
        Name of the target; errors are in its unit.
    """
    with style():
        if next(iter(models.values())).classes:
            return plot_class_curves(models, subject)
        return plot_error_curves(models, name, subject)


def list_codes(predictions: Predictions) -> list[int]:
    """Return the classes to draw one against the rest: the positive one of two, otherwise the six most common.

    Classes of no row or of all rows are left out: they have no curve.
    """
    sizes = np.bincount(predictions.y_true, minlength=len(predictions.classes))
    codes = (
        [predictions.positive] if len(predictions.classes) == 2 else np.argsort(-sizes, kind="stable")[: len(PALETTE)]
    )
    return [int(code) for code in codes if 0 < sizes[code] < len(predictions.y_true)]


def find_predicted(predictions: Predictions) -> np.ndarray:
    """Return whether the true value and the prediction of each row can be drawn, shape (n_rows,)."""
    output = predictions.y_proba if predictions.classes else predictions.y_pred[:, None]
    is_predicted = ~np.isnan(keep_drawable(output)).any(axis=1)
    return is_predicted & ~np.isnan(keep_drawable(predictions.y_true))


def take_predicted(predictions: Predictions) -> Predictions:
    """Return the rows whose true value and prediction can be drawn."""
    return predictions.take(np.flatnonzero(find_predicted(predictions)))


def plot_class_curves(models: Mapping[str, Predictions], subject: Subject) -> Figure:
    """Draw ROC and precision-recall curves: of the positive class by model, or of each class against the rest."""
    models = {name: take_predicted(found) for name, found in models.items()}
    predictions = next(iter(models.values()))
    codes = list_codes(predictions)
    if not codes:
        only = (
            f"all {len(predictions.y_true):,} {subject.rows} are of one class"
            if len(predictions.y_true)
            else f"there are no {subject.rows}"
        )
        return make_note("ROC and precision-recall curves", f"There is no curve: {only}.")
    names = [subject.name_class(predictions.classes[code]) for code in codes]
    title = names[0] if len(codes) == 1 else "each class"
    areas = [sk.roc_auc_score(predictions.y_true == code, predictions.y_proba[:, code]) for code in codes]
    fact = f"ROC AUC {format_number(np.mean(areas))}: the probability that a {subject.row} of the class ranks above "
    fact += "another. "
    figure, axes = make_figure(
        f"ROC and precision-recall curves of {title}",
        f"{fact}Dashed: guessing.",
        form="Two curves",
        height=3.5,
        grid=(1, 2),
    )
    if len(codes) == 1:
        colors = {model: COLORS[model] for model in models if model != DUMMY}
        for model, color in reversed(colors.items()):
            if codes[0] in list_codes(models[model]):
                plot_class_curve(axes, models[model], codes[0], color=color)
    else:
        colors = dict(zip(names, PALETTE, strict=False))
        for code, color in zip(codes, PALETTE, strict=False):
            plot_class_curve(axes, predictions, code, color=color)
    axes[0].plot([0, 1], [0, 1], color=LINE, linestyle="--", linewidth=1.2)
    axes[0].set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    axes[1].set(title="Precision and recall", xlabel="recall", ylabel="precision")
    for panel in axes:
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03))
        set_ticks(panel, 5)
    if len(colors) > 1:
        add_legend(figure, colors)
    return figure


def plot_class_curve(axes: np.ndarray, predictions: Predictions, code: int, *, color: str) -> None:
    """Draw the two curves of one class against the rest."""
    is_class, probabilities = predictions.y_true == code, predictions.y_proba[:, code]
    false, true, _ = sk.roc_curve(is_class, probabilities)
    precision, recall, _ = sk.precision_recall_curve(is_class, probabilities)
    axes[0].plot(false, true, color=color)
    axes[1].step(recall, precision, where="post", color=color)
    axes[1].axhline(is_class.mean(), color=LINE, linestyle="--", linewidth=1.2)


def plot_error_curves(models: Mapping[str, Predictions], target: str, subject: Subject) -> Figure:
    """Draw the share of rows predicted within each error, by model.

    The regression error characteristic of Bi and Bennett (ICML 2003).
    """
    known = {name: take_predicted(predictions) for name, predictions in models.items()}
    errors = {name: np.sort(np.abs(found.y_pred - found.y_true)) for name, found in known.items() if len(found.y_true)}
    title = f"Share of {subject.rows} within an error"
    if not errors:
        return make_note(title, NO_PREDICTION)
    middle = {name: float(np.median(values)) for name, values in errors.items()}
    first, *others = middle
    fact = f"Half of the {subject.rows} are predicted within {format_number(middle[first])}"
    fact += "".join(f", by {name} within {format_number(middle[name])}" for name in others)
    figure, (axes,) = make_figure(title, f"{fact}.", form="Curves", height=3.1)
    for name, values in reversed(errors.items()):
        shares = np.arange(1, len(values) + 1) / len(values)
        axes.step([0, *values], [0, *shares], where="post", color=COLORS[name])
        axes.plot(middle[name], 0.5, "o", color=COLORS[name], markersize=8)
    axes.axhline(0.5, color=LINE, linestyle="--", linewidth=1.2)
    error = subject.add_unit("largest error", target)
    error = error if error != "largest error" else "largest error (in the target's unit)"
    axes.set(xlabel=error, ylabel=f"share of {subject.rows}", ylim=(0, 1.02), xlim=(0, None))
    add_legend(figure, {name: COLORS[name] for name in errors})
    return figure


def plot_calibration(predictions: Predictions, name: str, *, blocks: Blocks, subject: Subject = GENERIC) -> Figure:
    """Draw mean true values against mean predictions, in ten groups of rows with similar predictions.

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
    fact = f"On average a group's mean true value is {format_number(error)} away from its prediction. On the "
    fact += "dashed line they are equal; lines are one standard error."
    with style():
        figure, (axes,) = make_figure(title, fact, form="Curve", height=3.6)
        ends = [min(means.min()), max(means.max())]
        axes.plot(ends, ends, color=LINE, linestyle="--", linewidth=1.4)
        axes.errorbar(means["prediction"], means["true"], deviations, fmt="o-", color=ORANGE, ecolor=LINE, markersize=7)
        axes.plot(predicted, np.full(len(predicted), axes.get_ylim()[0]), "|", color=BLUE, alpha=0.4, markersize=9)
        axes.set(xlabel=f"{predicted_name} (blue: each {subject.row})", ylabel=true_name)
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
        if len(classes) <= 4:
            label += f"  ({format_share(shares[row, column])})"
        color = "white" if shares[row, column] > 0.45 else INK
        axes.text(
            column, row, label, ha="center", va="center", color=color, weight="bold" if row == column else "normal"
        )
    is_wide = sum(map(len, classes)) > MOST_TICK_CHARACTERS
    axes.set_xticks(range(len(classes)), classes, rotation=90 if is_wide else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
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
    axes[0].plot(ends, ends, color=LINE, linestyle="--", linewidth=1.4)
    axes[0].plot(y_true, y_pred, "o", color=BLUE, alpha=0.45, markersize=5, markeredgewidth=0)
    title = subject.add_unit(name, name)
    axes[0].set(title=f"Each {subject.row}", xlabel=f"true {title}", ylabel=f"predicted {title}")
    n_bins = min(24, max(8, round(len(errors) ** 0.5)))
    axes[1].hist(errors, list(spread_edges(*find_ends(errors), n_bins)), color=BLUE, edgecolor="white")
    axes[1].axvline(0, color=ORANGE)
    axes[1].set(title="Errors", xlabel=subject.add_unit("predicted − true", name), ylabel=subject.rows)
    set_ticks(axes[1], 4)
    return figure
