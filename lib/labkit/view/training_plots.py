"""Plots of tuning and calibration.

The leaderboard is in `labkit.view.model_plots`.
"""

import numpy as np
import pandas as pd

from labkit.model.evaluation.curves import make_calibration
from labkit.model.evaluation.fold_checks import count_deviations_worse, describe_deviations
from labkit.model.evaluation.method_checks import MOST_DEVIATIONS
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.training.calibration import Calibration
from labkit.model.training.selection import Choice
from labkit.params.training import Training
from labkit.view.prose import count, escape, format_column, format_deviation, format_number, join_names
from labkit.view.style import (
    BLUE,
    MUTED,
    ORANGE,
    Figure,
    add_legend,
    find_ends,
    keep_drawable,
    make_figure,
    make_note,
    style,
)


def plot_trials(frame: pd.DataFrame, metric: str, model: str) -> Figure:
    """Draw each trial's metric, pruned ones as crosses, those far worse as triangles, and the best so far as a line.

    Parameters
    ----------
    frame
        The trials as `labkit.model.training.tuning.tune` returns them.
    """
    if frame.empty:
        return make_note("Tuning", "No trials were requested, or no candidate has hyperparameters to search.")
    frame = frame.assign(**{name: keep_drawable(frame[name]) for name in (metric, "best")})
    done, early = frame[frame["state"] == "complete"], frame[frame["state"] == "pruned"]
    first, last = frame[metric].iloc[0], frame["best"].iloc[-1]
    better = "higher" if is_greater_better(metric) else "lower"
    fact = f"From {format_number(first, 4)} to {format_number(last, 4)}; {better} is better. "
    fact += f"{count(len(early), 'trial').capitalize()} pruned after the first folds"
    fact += f" (crosses below: their {metric} is not comparable)." if len(early) else "."
    ends = find_shown_trials(done[metric], metric)
    far = done[(done[metric] < ends[0]) | (done[metric] > ends[1])]
    fact += f" {count(len(far), 'other').capitalize()} worse than the axis shows (triangles)." if len(far) else ""
    with style():
        title = f"{count(len(frame), 'trial')} of {model}"
        figure, (axes,) = make_figure(title, fact, form="Line and points", height=3.1)
        shown, (edge, triangle) = done.drop(far.index), (0.12, "v") if is_greater_better(metric) else (0.96, "^")
        axes.plot(shown["trial"], shown[metric], "o", color=BLUE, alpha=0.7, markersize=6)
        below = axes.get_xaxis_transform()
        axes.plot(early["trial"], np.full(len(early), 0.04), "x", color=MUTED, markersize=6, transform=below)
        axes.plot(far["trial"], np.full(len(far), edge), triangle, color=BLUE, markersize=6, transform=below)
        axes.step(frame["trial"], frame["best"], where="post", color=ORANGE)
        axes.set(xlabel="trial (0: the candidate with its defaults)", ylabel=f"{metric}, mean over the folds")
        axes.set_ylim(*ends)
        colors = {"trial": BLUE, "pruned": MUTED, "best so far": ORANGE}
        add_legend(figure, colors, marks={"trial": "o", "pruned": "x"})
        figure.table = frame[["trial", "state", metric, "best"]]
        return figure


def find_shown_trials(values: pd.Series, metric: str) -> tuple[float, float]:
    """Return the ends of the axis of complete trials: the worst tenth may lie beyond, or they would flatten the rest.

    >>> find_shown_trials(pd.Series([0.5, *[0.8] * 9, 0.9]), "roc_auc")
    (0.785, 0.915)
    """
    known = values.dropna().to_numpy(dtype=float)
    low, high = find_ends(known)
    if len(known):
        low, high = np.quantile(known, [0.1, 1.0] if is_greater_better(metric) else [0.0, 0.9]).tolist()
    margin = 0.15 * max(high - low, 1e-6, 1e-6 * abs(high))
    return low - margin, high + margin


def describe_settings(training: Training) -> list[str]:
    """Return a line for each setting of all candidates that is not at its default."""
    lines = []
    if training.class_weight != "none":
        lines.append("- Rare classes count as much as frequent ones, in candidates that support class weights.")
    if training.target_transform != "none":
        kind = training.target_transform.replace("_", "-")
        lines.append(f"- The target is learned on a {kind} scale; metrics and predictions are in its own unit.")
    if training.most_features is not None:
        most = count(training.most_features, "prepared feature")
        lines.append(f"- Each candidate keeps at most {most}, selected again in every fold.")
    if training.budget_seconds is not None:
        spent = f"{training.budget_seconds:g} s"
        lines.append(f"- Comparison and tuning stop after {spent}: the result may differ from run to run.")
    return lines


def summarize_choice(frame: pd.DataFrame, choice: Choice, result: str) -> list[str]:
    """Return what is chosen and why, and the metrics of the other candidates if there are any, in Markdown.

    Parameters
    ----------
    frame
        The leaderboard as `labkit.model.training.comparison.compare` returns it.
    result
        The metric of the choice in the folds.
    """
    others = frame[(frame["error"] == "") & (frame["model"] != choice.model)]
    among = f" of {len(frame)} candidates" if len(frame) > 1 else ""
    means = zip(others["model"], format_column(others[choice.metric]), strict=True)
    ranked = join_names(f"{escape(model)} {mean}" for model, mean in means)
    untuned = (", with its defaults" if len(others) == 1 else ", with their defaults") if choice.settings else ""
    named = f"The other{'s' if len(others) > 1 else ''}{untuned}: {ranked}."
    return [f"{escape(choice.model)} is chosen{among}, {result}: {choice.reason}.", *([named] if len(others) else [])]


def describe_validation(choice: Choice, checked: float, *, is_ordered: bool) -> str:
    """Return how the metric on the validation rows compares with the one in the folds, in Markdown.

    Parameters
    ----------
    checked
        The metric on the validation rows.
    is_ordered
        Whether validation rows are later than training rows.
    """
    worse = count_deviations_worse(choice.metric, (choice.score, choice.deviation), checked)
    in_folds = f"{choice.metric} {format_deviation(choice.score, choice.deviation)}"
    apart = f"{describe_deviations(worse)} of the folds" if worse else "the same"
    meaning = "That is as expected."
    if abs(worse) > MOST_DEVIATIONS:
        why = f"rows later in time may be {'harder' if worse > 0 else 'easier'}"
        if not is_ordered:
            why = "be wary of the ranking" if worse > 0 else "these rows may be easier"
        meaning = f"That is more than expected: {why}."
    return (
        f"In the folds {escape(choice.model)} had {in_folds}; on the validation rows it has "
        f"**{format_number(checked)}**, which is {apart}. {meaning}"
    )


def plot_calibration_change(calibration: Calibration) -> Figure:
    """Draw observed shares against predicted probabilities, before and after calibration.

    The rows took no part in the calibration. If none was tried, the figure states the reason.
    """
    with style():
        title = "Do probabilities match outcomes better after calibration?"
        if calibration.before is None or calibration.after is None:
            return make_note(title, f"Not tried: {calibration.reason}.")
        reason, n_rows = calibration.reason, count(len(calibration.before.y_true), "row")
        fact = f"{reason[0].upper()}{reason[1:]}; {n_rows}. On the dashed line, probabilities and outcomes agree."
        figure, (axes,) = make_figure(title, fact, form="Calibration curves", height=3.4)
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.4)
        tables = []
        for predictions, color in ((calibration.before, BLUE), (calibration.after, ORANGE)):
            groups = make_calibration(predictions)
            axes.plot(groups["prediction"], groups["true"], "o-", color=color, markersize=6)
            calibrated = "before" if predictions is calibration.before else "after"
            tables.append(groups[["prediction", "true"]].assign(calibration=calibrated))
        axes.set(xlabel="predicted probability, mean of the group", ylabel="observed share")
        axes.set_aspect("equal", adjustable="box")
        add_legend(figure, {"before": BLUE, "after": ORANGE}, marks={})
        figure.table = pd.concat(tables, ignore_index=True)
        return figure
