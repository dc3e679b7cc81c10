"""Plots and sentences about decisions: what the predicted classes get right and wrong at each threshold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.threshold import HALF
from labkit.params.subject import GENERIC, Subject
from labkit.view.curve_plots import NO_PREDICTION, take_predicted
from labkit.view.model_plots import plot_mistakes
from labkit.view.prose import (
    escape,
    format_column,
    format_interval,
    format_number,
    format_share,
    join_names,
    shorten_name,
)
from labkit.view.style import BLACK, SEQUENTIAL, WHITE, Axes, Figure, make_figure, make_note, style


def plot_decisions(
    predictions: Predictions, name: str, threshold: float | None, *, subject: Subject = GENERIC
) -> Figure:
    """Draw the confusion matrix at the threshold in force beside that at 0.5; without a threshold, only the mistakes.

    Parameters
    ----------
    name
        The target's column.
    threshold
        Probability of the class of interest from which it is predicted; None if none was chosen.
    """
    if threshold is None:
        return plot_mistakes(predictions, name, subject=subject)
    title = f"Confusion matrix at {format_number(threshold)} (in force) and at {HALF:g}"
    known = take_predicted(predictions)
    if not len(known.y_true):
        return make_note(title, NO_PREDICTION)
    levels = {threshold: "in force", HALF: "for comparison"}
    found = {level: known.decide(level) for level in levels}
    shares = {level: format_share(compute_recall(one)) for level, one in found.items()}
    caught = subject.name_rows(of_class=known.classes[known.positive])
    fact = f"Of the {caught}, {shares[threshold]} are caught at {format_number(threshold)}, which is in force, and "
    fact += f"{shares[HALF]} at {HALF:g}, the most probable class. {subject.count_rows(len(known.y_true))}; "
    fact += "percentages are of the true class."
    with style():
        figure, axes = make_figure(title, fact, form="Two heat maps", height=2.6, grid=(1, 2), sharey=True)
        tables = []
        for panel, (level, one) in zip(axes, found.items(), strict=True):
            tables.append(plot_counts(panel, one, subject).assign(threshold=format_number(level)))
            panel.set(title=f"threshold {format_number(level)} ({levels[level]})", xlabel="predicted class")
        axes[0].set_ylabel("true class")
        figure.table = pd.concat(tables, ignore_index=True)
        return figure


def compute_recall(predictions: Predictions) -> float:
    """Return the share of the rows of the class of interest that are predicted as such; 0 without such rows."""
    is_hit = predictions.y_true == predictions.positive
    return float((predictions.y_pred[is_hit] == predictions.positive).mean()) if is_hit.any() else 0.0


def plot_counts(axes: Axes, predictions: Predictions, subject: Subject) -> pd.DataFrame:
    """Draw and return how many rows of each of two classes are predicted as which."""
    table = sk.confusion_matrix(predictions.y_true, predictions.y_pred, labels=range(2))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1.25, aspect="auto")
    for row, column in np.ndindex(*table.shape):
        written = f"{table[row, column]:,}\n({format_share(shares[row, column])})"
        color, weight = WHITE if shares[row, column] > 0.45 else BLACK, "bold" if row == column else "normal"
        axes.text(column, row, written, ha="center", va="center", color=color, weight=weight)
    names = [shorten_name(subject.name_class(label), 16) for label in predictions.classes]
    axes.set_xticks(range(2), names)
    axes.set_yticks(range(2), names)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    cells = [(names[row], names[column], int(table[row, column])) for row, column in np.ndindex(*table.shape)]
    return pd.DataFrame(cells, columns=["true class", "predicted class", subject.rows])


def describe_scores(scores: pd.DataFrame) -> str:
    """Return how the scores that a threshold was chosen on differ from those that it is applied to, as sentences.

    Parameters
    ----------
    scores
        As `labkit.model.evaluation.threshold.compare_scores` returns them, of three: of the model that was fitted
        without the validation rows, for these and for the holdout rows; of the evaluated model for the holdout rows.
    """
    before, same, now = (format_share(share, 1) for share in scores["flagged"])
    _, other, own = format_column(scores["mean probability"])
    return (
        "The threshold was chosen on the scores of a model that was fitted without the validation rows, of which it "
        f"flags {before}. On other rows, those of the holdout, it flags {same}. Another model on the same rows, the "
        f"evaluated one, which has learned from the validation rows too, flags {now}: its mean probability there is "
        f"{own}, that of the first model {other}. The threshold is not moved for that, as it would take true values of "
        "the holdout; costs and shares on this page are those of the evaluated model."
    )


def describe_doubts(doubts: Mapping[str, Sequence[str]], baselines: Sequence[str]) -> list[str]:
    """Return a list item for each metric in which the model is not better than a baseline, or that there is none.

    Parameters
    ----------
    doubts
        As `labkit.model.evaluation.gate.list_not_better` returns it.
    """
    lines = [f"- **{escape(metric)}**: {'; '.join(reasons)}." for metric, reasons in doubts.items()]
    if lines:
        return ["In these metrics the model is not shown to be better than every baseline:", *lines]
    return [f"In every metric the model is better than {join_names(baselines)}, with the whole interval."]


def summarize_doubts(gains: Mapping[str, Mapping[str, Interval]]) -> str:
    """Return than which baselines the model is worse in which metrics, and in which no difference is shown.

    Parameters
    ----------
    gains
        Paired gains by baseline and metric, as `labkit.model.evaluation.bootstrap.compare_models` returns them.

    Examples
    --------
    >>> summarize_doubts({"dummy": {"f1": Interval(-0.2, -0.3, -0.1), "mae": Interval(0.1, -0.1, 0.3)}})
    '**Worse** than dummy in `f1`. Not shown to be better than dummy in `mae`.'
    """
    worse, unknown = [], []
    for other, by_metric in gains.items():
        lost = [escape(metric) for metric, gain in by_metric.items() if gain.high < 0]
        unsure = [escape(metric) for metric, gain in by_metric.items() if not (gain.low > 0 or gain.high < 0)]
        worse += [f"than {other} in {join_names(lost, most=10)}"] if lost else []
        unknown += [f"than {other} in {join_names(unsure, most=10)}"] if unsure else []
    parts = {"**Worse**": worse, "Not shown to be better": unknown}
    return " ".join(f"{word} {'; '.join(found)}." for word, found in parts.items() if found)


def tabulate_groups(table: pd.DataFrame, *, subject: Subject = GENERIC) -> pd.DataFrame:
    """Return how the model treats groups of rows, a line per group, with the interval of each rate.

    Parameters
    ----------
    table
        As `labkit.model.evaluation.fairness.measure_groups` returns it.
    """
    lines: dict[tuple[str, str], dict[str, object]] = {}
    for one in table.to_dict("records"):
        named = f"{subject.name_column(one['column'])}: {one['group']}"
        line = lines.setdefault((one["column"], one["group"]), {"group": named, subject.rows: one["rows"]})
        is_known = not np.isnan(one["value"])
        line[one["rate"]] = format_interval(one["value"], one["low"], one["high"]) if is_known else "too few rows"
    return pd.DataFrame([*lines.values()])
