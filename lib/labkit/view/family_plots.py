"""Plots and sentences of an ablation: what each family of features is worth."""

import numpy as np

from labkit.model.evaluation.bootstrap import Interval
from labkit.model.training.ablation import ALL_NEW, CONFIDENCE, Ablation
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_column, format_difference_alike
from labkit.view.model_plots import plot_interval
from labkit.view.prose import count, escape, join_names, shorten_name
from labkit.view.style import (
    BLUE,
    MUTED,
    ORANGE,
    Figure,
    finish_bars,
    keep_drawable,
    make_figure,
    make_note,
    set_ticks,
    style,
)

NOTHING = "There is no family of features to leave out."


def plot_ablation(ablation: Ablation, subject: Subject = GENERIC) -> Figure:
    """Draw how much better the metric is with each family than without it, with its interval."""
    frame, metric, title = ablation.families, ablation.metric, "Gain by family of features"
    if frame.empty or not np.isfinite(keep_drawable(frame["gain"])).any():
        return make_note(title, NOTHING)
    n_sure = int((frame["low"] > 0).sum())
    rows = subject.count_rows(ablation.n_rows, kind="validation")
    fact = f"LightGBM with its defaults on all features against one without each family, measured on {rows}. "
    improve = "improves" if n_sure == 1 else "improve"
    fact += f"{n_sure} of {count(len(frame), 'family', 'families')} {improve} {metric} beyond random variation (blue)."
    if harmful := list_harmful(ablation):
        fact += f" It is worse with {join_names(harmful)} than without (orange)."
    labels = format_column(frame["gain"])
    with style():
        figure, (axes,) = make_figure(title, fact, form="Interval chart", height=0.9 + 0.42 * len(frame))
        for row, line in enumerate(frame.itertuples()):
            interval = Interval(*(float(getattr(line, name)) for name in ("gain", "low", "high")))
            color = BLUE if interval.low > 0 else ORANGE if interval.high < 0 else MUTED
            plot_interval(axes, row, interval, color=color, label=labels[row])
        axes.axvline(0, color=MUTED, linewidth=1.4)
        figure.table = frame[["family", "features", "gain", "low", "high"]]
        names = [f"{shorten_name(line.family)} ({line.features})" for line in frame.itertuples()]
        finish_bars(axes, names, f"gain in {metric} with the family (number of features)")
        axes.margins(x=0.12)
        set_ticks(axes, 5)
        return figure


def list_harmful(ablation: Ablation) -> list[str]:
    """Return the families without which the metric is better beyond random variation."""
    frame = ablation.families
    return frame.loc[frame["high"] < 0, "family"].tolist() if len(frame) else []


def describe_ablation(ablation: Ablation, family: str = ALL_NEW) -> str:
    """Return in a sentence whether a family is worth it, and which do harm; empty if it was not left out."""
    frame, metric = ablation.families, ablation.metric
    found = frame[frame["family"] == family]
    if not len(found):
        return ""
    gain, low, high = (float(found[name].iloc[0]) for name in ("gain", "low", "high"))
    lead = f"With {family}, the {metric} of LightGBM with its defaults on the validation rows is"
    others = [escape(name) for name in list_harmful(ablation) if name != family]
    note = f" Beyond random variation it is worse with {join_names(others)} than without." if others else ""
    shown, first, last = format_difference_alike(gain, low, high)
    word, by = "better" if gain >= 0 else "worse", shown.removeprefix("-")
    if np.isnan([low, high]).any():
        return f"{lead} {by} {word}, without an interval: too few independent rows.{note}"
    span = f"{CONFIDENCE:.0%}".replace("%", " %") + f" interval {first} to {last}"
    if low <= 0 <= high:
        return f"{lead} not distinguishable from that without them: {by} {word}, but the {span} includes 0.{note}"
    return f"{lead} {word} by {by}, {span}.{note}"
