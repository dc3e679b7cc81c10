"""Plots of tuning and calibration.

The leaderboard is in `labkit.view.model_plots`.
"""

import numpy as np
import pandas as pd

from labkit.model.evaluation.curves import make_calibration
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.training.calibration import Calibration
from labkit.params.training import Training
from labkit.view.prose import count, format_number
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
    """Draw each trial's metric, pruned trials as crosses, and the best so far as a line.

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
    with style():
        title = f"{count(len(frame), 'trial')} of {model}"
        figure, (axes,) = make_figure(title, fact, form="Line and points", height=3.1)
        axes.plot(done["trial"], done[metric], "o", color=BLUE, alpha=0.7, markersize=6)
        below = axes.get_xaxis_transform()
        axes.plot(early["trial"], np.full(len(early), 0.04), "x", color=MUTED, markersize=6, transform=below)
        axes.step(frame["trial"], frame["best"], where="post", color=ORANGE)
        axes.set(xlabel="trial (0: the candidate with its defaults)", ylabel=f"{metric}, mean over the folds")
        known = done[metric].dropna().to_numpy(dtype=float)
        low, high = find_ends(known)
        if len(known):
            low, high = np.quantile(known, [0.1, 1.0] if is_greater_better(metric) else [0.0, 0.9])
        margin = 0.15 * max(high - low, 1e-6, 1e-6 * abs(high))
        axes.set_ylim(low - margin, high + margin)
        colors = {"trial": BLUE, "pruned": MUTED, "best so far": ORANGE}
        add_legend(figure, colors, marks={"trial": "o", "pruned": "x"})
        figure.table = frame[["trial", "state", metric, "best"]]
        return figure


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
