"""Curves of predictions: ROC, precision and recall, and the distribution of errors."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import GENERIC, Subject
from labkit.params.training import DUMMY
from labkit.view.prose import format_number, format_share
from labkit.view.style import (
    BLUE,
    GREY,
    MUTED,
    ORANGE,
    PALETTE,
    Figure,
    add_legend,
    keep_drawable,
    make_figure,
    make_note,
    set_ticks,
    style,
)

COLORS = {"model": ORANGE, "plain LightGBM": BLUE, DUMMY: GREY}
"""Colours of the model and of the baselines in every plot of an evaluation."""
NO_PREDICTION = "There is no row with a true value and a prediction that can be drawn."


def plot_curves(
    models: Mapping[str, Predictions], *, name: str = "", metric: str = "", subject: Subject = GENERIC
) -> Figure:
    """Draw ROC and precision-recall curves, or the cumulative distribution of errors.

    Parameters
    ----------
    models
        Predictions by model, the chosen one first: names are those of `COLORS`.
    name
        Name of the target; errors are in its unit.
    metric
        The metric for which the constant of the dummy is the best.
    """
    with style():
        if next(iter(models.values())).classes:
            return plot_class_curves(models, subject)
        return plot_error_curves(models, name, metric, subject)


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
    wanted = subject.name_rows(of_class=predictions.classes[codes[0]]) if len(codes) == 1 else "rows of a class"
    averaged = ", the mean of the classes" if len(codes) > 1 else ""
    fact = f"ROC AUC {format_number(np.mean(areas))}{averaged}: the probability that one of the {wanted} ranks above "
    fact += "one of the others. "
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
    axes[0].plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.2)
    axes[0].set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    axes[1].set(title="Precision and recall", xlabel="recall", ylabel="precision")
    for panel in axes:
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03))
        set_ticks(panel, 5)
    if len(colors) > 1:
        add_legend(figure, colors, marks={})
    figure.table = pd.concat(
        [list_rates(found, codes[0]).assign(curve=name) for name, found in models.items() if name in colors]
        if len(codes) == 1
        else [list_rates(predictions, code).assign(curve=name) for code, name in zip(codes, names, strict=True)],
        ignore_index=True,
    )
    return figure


def list_rates(predictions: Predictions, code: int) -> pd.DataFrame:
    """Return points of the two curves of a class: what is caught and wrong when a share of the rows is flagged."""
    is_class = (predictions.y_true == code)[np.argsort(-predictions.y_proba[:, code], kind="stable")]
    flagged = np.unique(np.ceil(len(is_class) * np.array([0.01, 0.02, 0.05, *np.arange(1, 11) / 10])).astype(int))
    hits = np.cumsum(is_class)[flagged - 1]
    others = max(int((~is_class).sum()), 1)
    return pd.DataFrame(
        {
            "flagged": [format_share(share, 1) for share in flagged / len(is_class)],
            "recall (true positive rate)": [format_share(share, 1) for share in hits / max(int(is_class.sum()), 1)],
            "false positive rate": [format_share(share, 1) for share in (flagged - hits) / others],
            "precision": [format_share(share, 1) for share in hits / flagged],
        }
    )


def plot_class_curve(axes: np.ndarray, predictions: Predictions, code: int, *, color: str) -> None:
    """Draw the two curves of one class against the rest."""
    is_class, probabilities = predictions.y_true == code, predictions.y_proba[:, code]
    false, true, _ = sk.roc_curve(is_class, probabilities)
    precision, recall, _ = sk.precision_recall_curve(is_class, probabilities)
    axes[0].plot(false, true, color=color)
    axes[1].step(recall, precision, where="post", color=color)
    axes[1].axhline(is_class.mean(), color=MUTED, linestyle="--", linewidth=1.2)


def plot_error_curves(models: Mapping[str, Predictions], target: str, metric: str, subject: Subject) -> Figure:
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
    for name in others:
        constant = float(known[name].y_pred[0]) if len(set(known[name].y_pred.tolist())) == 1 else None
        best = f", best for {metric}" if metric and name == DUMMY else ""
        always = f" (always {format_number(constant)}{best})" if constant is not None else ""
        fact += f", by {name}{always} within {format_number(middle[name])}"
    figure, (axes,) = make_figure(title, f"{fact}.", form="Curves", height=3.1)
    for name, values in reversed(errors.items()):
        shares = np.arange(1, len(values) + 1) / len(values)
        axes.step([0, *values], [0, *shares], where="post", color=COLORS[name])
        axes.plot(middle[name], 0.5, "o", color=COLORS[name], markersize=8)
    axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=1.2)
    error = subject.add_unit("largest error", target)
    error = error if error != "largest error" else "largest error (in the target's unit)"
    axes.set(xlabel=error, ylabel=f"share of {subject.rows}", ylim=(0, 1.02), xlim=(0, None))
    add_legend(figure, {name: COLORS[name] for name in errors}, marks={})
    shares = np.arange(1, 11) / 10
    figure.table = pd.DataFrame({f"share of {subject.rows}": [format_share(share) for share in shares]}).assign(
        **{f"{name} within": np.quantile(values, shares) for name, values in errors.items()}
    )
    return figure
