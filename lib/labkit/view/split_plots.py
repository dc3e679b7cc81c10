"""Plots of the parts of a split: their sizes, and the target in each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Target
from labkit.view.data_plots import list_classes
from labkit.view.prose import format_share, shorten_name
from labkit.view.style import (
    BLUE,
    GREY,
    GROUND,
    INK,
    PALETTE,
    Axes,
    Figure,
    choose_ink,
    finish_bars,
    keep_drawable,
    make_figure,
    set_ticks,
    style,
)


def describe_left_out(embargoed: Mapping[str, int], *, n_outlying: int) -> str:
    """Return how many rows are in no part, and why, to follow the sizes of the parts; empty if there are none.

    >>> describe_left_out({"training": 80, "validation": 7}, n_outlying=0)
    '; 87 are in no part because their outcome was known too late'
    """
    counts = {"because their outcome was known too late": sum(embargoed.values()), "as outliers": n_outlying}
    named = [f"{count:,} {'is' if count == 1 else 'are'} in no part {why}" for why, count in counts.items() if count]
    return "".join(f"; {one}" for one in named)


def plot_split(parts: Mapping[str, pd.DataFrame], target: Target, *, subject: Subject = GENERIC) -> Figure:
    """Draw the parts' sizes, and the target in each part: the classes' shares, or the middle 90 %."""
    sizes = {name: len(part) for name, part in parts.items()}
    total = sum(sizes.values())
    fact = ", ".join(f"{name} {format_share(size / max(total, 1))}" for name, size in sizes.items()).capitalize()
    outcomes = {name: part[target.column] for name, part in parts.items()}
    with style():
        title = f"{subject.count_rows(total)} in {len(parts)} parts, and {target.column} in each"
        grid = {"width_ratios": [2, 3], "sharey": True}
        if target.task == "regression":
            fact += f". Right: the thick line holds 50 % of a part's {subject.rows}, the thin one 90 %, the circle is "
            fact += "the median"
        figure, axes = make_figure(title, f"{fact}.", form="Two bar charts", height=2.3, grid=(1, 2), **grid)
        rows = np.arange(len(sizes))
        axes[0].barh(rows, list(sizes.values()), color=GREY, height=0.6)
        for row, size in zip(rows, sizes.values(), strict=True):
            axes[0].annotate(f"{size:,}", (size, row), (5, 0), textcoords="offset points", va="center", color=INK)
        axes[0].set_xlim(0, 1.35 * max(*sizes.values(), 1))
        if target.task == "classification":
            classes = list_classes(pd.concat(list(outcomes.values())), target.positive)
            drawn = plot_shares(axes[1], outcomes, {label: subject.name_class(label) for label in classes})
        else:
            drawn = plot_spreads(axes[1], list(outcomes.values()))
        finish_bars(axes[0], list(sizes), subject.rows)
        set_ticks(axes[0], 2)
        figure.table = pd.DataFrame({"part": list(sizes), subject.rows: list(sizes.values())}).assign(**drawn)
        axes[1].tick_params(axis="y", labelleft=False)
        axes[1].grid(visible=False, axis="y")
        axes[1].spines["left"].set_visible(False)
        by_class = f"share of each part's {subject.rows}"
        axes[1].set_xlabel(by_class if target.task == "classification" else subject.name_column(target.column))
        return figure


def plot_shares(axes: Axes, outcomes: Mapping[str, pd.Series], classes: Mapping[Any, str]) -> dict[str, list[Any]]:
    """Draw and return the shares of classes, given with their names, of each part as one stacked bar."""
    drawn: dict[str, list[Any]] = {name: [] for name in classes.values()}
    for row, values in enumerate(outcomes.values()):
        start = 0.0
        for (label, name), color in zip(classes.items(), PALETTE, strict=False):
            share = float((values == label).mean()) if len(values) else 0.0
            axes.barh(row, share, left=start, color=color, height=0.6, label=shorten_name(name) if row == 0 else None)
            drawn[name].append(format_share(share))
            if share > 0.08:
                middle = start + share / 2
                ink = choose_ink(color)
                axes.text(middle, row, format_share(share), ha="center", va="center", color=ink, size=10.5)
            start += share
    axes.set_xlim(0, 1)
    set_ticks(axes, 5, as_share=True)
    if classes and outcomes:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0, handlelength=1)
    return drawn


def plot_spreads(axes: Axes, outcomes: Sequence[pd.Series]) -> dict[str, list[Any]]:
    """Draw and return each part's outcomes: a thin line for 90 %, a thick one for 50 %, a point for the median."""
    levels = {"5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95}
    drawn: dict[str, list[Any]] = {name: [] for name in levels}
    for row, values in enumerate(map(keep_drawable, outcomes)):
        known = values[~np.isnan(values)]
        quantiles = np.quantile(known, list(levels.values())) if len(known) else np.full(len(levels), np.nan)
        for name, quantile in zip(levels, quantiles, strict=True):
            drawn[name].append(float(quantile))
        low, lower, middle, upper, high = quantiles
        axes.plot([low, high], [row, row], color=BLUE, linewidth=2)
        axes.plot([lower, upper], [row, row], color=BLUE, linewidth=10, solid_capstyle="butt")
        axes.plot(middle, row, "o", color=GROUND, markeredgecolor=INK, markersize=7)
    return drawn
