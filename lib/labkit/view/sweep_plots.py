"""Plots of sweeps: the score of each point beside its parameters."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.model.evaluation.metrics import is_greater_better
from labkit.view.heat_maps import plot_heat
from labkit.view.prose import count, format_column, format_number, shorten_name
from labkit.view.style import (
    BLUE,
    GREY,
    GROUND,
    INK,
    LINE,
    ORANGE,
    SEQUENTIAL,
    Axes,
    Figure,
    make_figure,
    make_note,
    style,
)

MOST_VALUES = 12
"""Values of a parameter that are written beside its axis, and rows or columns of a heat map."""
MOST_AXES = 7
WIDE_RANGE = 50
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def plot_points_of_sweep(points: pd.DataFrame, scores: Sequence[float], metric: str) -> Figure:
    """Draw the points of a sweep: a heat map of two parameters of which all combinations ran, else parallel axes.

    Parameters
    ----------
    points
        One row per point, the best first, one column per parameter with its values as written; the index are the
        numbers of the points.
    scores
        The metric in cross-validation of each, shape (n_points,).
    """
    title = f"{count(len(points), 'point')} by {metric} in cross-validation"
    drawn = np.isfinite(np.asarray(scores, dtype=float))
    points, values = points[drawn], np.asarray(scores, dtype=float)[drawn]
    if len(points) < 2:
        return make_note(title, "There are too few points to compare.")
    better = "higher" if is_greater_better(metric) else "lower"
    fact = f"The best is point {points.index[0]} with {format_number(values[0])}; {better} is better."
    names = list(points.columns)
    sizes = [points[name].nunique() for name in names]
    if len(names) == 2 and math.prod(sizes) == len(points) and min(sizes) > 1 and max(sizes) <= MOST_VALUES:
        return plot_grid(points, values, title=title, fact=fact)
    return plot_parallel(points, values, metric, title=title, fact=fact)


def plot_grid(points: pd.DataFrame, values: np.ndarray, *, title: str, fact: str) -> Figure:
    """Draw the scores of all combinations of two parameters as a heat map."""
    row, column = points.columns
    orders = [sorted(points[name].unique(), key=make_sort_key) for name in (row, column)]
    table = points.assign(score=values).pivot(index=row, columns=column, values="score").loc[orders[0], orders[1]]
    labels = np.array([format_column(line) for line in table.to_numpy()])
    shown = table.set_axis([shorten_name(name, 22) for name in orders[0]], axis=0)
    shown = shown.set_axis([shorten_name(name, 18) for name in orders[1]], axis=1)
    with style():
        figure, (axes,) = make_figure(title, fact, form="Heat map", height=1.4 + 0.4 * len(shown))
        span = (float(values.min()), float(values.max()))
        plot_heat(axes, shown, labels=labels, span=span, color_map=SEQUENTIAL)
        axes.set(xlabel=str(column), ylabel=str(row))
        figure.table = points.assign(score=format_column(values)).rename_axis("point").reset_index()
        return figure


def plot_parallel(points: pd.DataFrame, values: np.ndarray, metric: str, *, title: str, fact: str) -> Figure:
    """Draw each point as a line through its parameters to its score; the best stands out."""
    names = list(points.columns)[:MOST_AXES]
    fact += " Each line is one point, from its parameters to its score; the best is orange."
    with style():
        figure, (axes,) = make_figure(title, fact, form="Parallel axes", height=3.6)
        places = [plot_parameter(axes, at, list(points[name])) for at, name in enumerate(names)]
        ends = (float(values.min()), float(values.max()))
        places.append(place_numbers(values, is_log=False))
        write_ticks(axes, len(names), [(0.0, format_number(ends[0])), (1.0, format_number(ends[1]))], side="left")
        lines = np.array(places).T
        for number in reversed(range(len(lines))):
            color, width = (ORANGE, 2.4) if number == 0 else (BLUE, 1.2)
            axes.plot(lines[number], color=color, linewidth=width, alpha=1.0 if number == 0 else 0.5, zorder=2)
        labels = [str(name).replace(".", ".\n", 1) for name in [*names, metric]]
        axes.set_xticks(range(len(labels)), labels)
        axes.set(yticks=[], xlim=(-0.35, len(labels) - 0.7), ylim=(-0.06, 1.06))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.table = points.assign(score=format_column(values)).rename_axis("point").reset_index()
        return figure


def plot_parameter(axes: Axes, at: int, written: list[str]) -> np.ndarray:
    """Draw the axis of one parameter, and return the place of each point on it, 0 to 1, shape (n_points,)."""
    numbers = [parse_number(value) for value in written]
    if None not in numbers:
        values = np.array(numbers, dtype=float)
        is_log = values.min() > 0 and values.max() / values.min() >= WIDE_RANGE
        places = place_numbers(values, is_log=is_log)
        few = sorted({(float(place), value) for place, value in zip(places, written, strict=True)})
        write_ticks(axes, at, few if len(few) <= MOST_VALUES // 2 else [few[0], few[-1]])
        return places
    names = sorted(set(written), key=make_sort_key)
    spread = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([0.5])
    write_ticks(axes, at, list(zip(map(float, spread), names, strict=True)) if len(names) <= MOST_VALUES else [])
    return np.array([spread[names.index(value)] for value in written])


def place_numbers(values: np.ndarray, *, is_log: bool) -> np.ndarray:
    """Return the place of each number between the smallest, 0, and the largest, 1; all 0.5 if they are equal."""
    scaled = np.log(values) if is_log else values
    low, high = scaled.min(), scaled.max()
    return (scaled - low) / (high - low) if high > low else np.full(len(values), 0.5)


def write_ticks(axes: Axes, at: int, ticks: list[tuple[float, str]], *, side: str = "right") -> None:
    """Draw a vertical axis with its ticks, whose names end left of it, or begin right of it with `left`."""
    axes.axvline(at, color=LINE, linewidth=1, zorder=1)
    for place, name in ticks:
        axes.plot([at], [place], marker="_", color=GREY, markersize=6, zorder=1)
        axes.annotate(
            shorten_name(name, 20), (at, place), (-5 if side == "right" else 5, 0), textcoords="offset points", ha=side,
            va="center", fontsize=9.5, color=INK, zorder=3,
            bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
        )  # fmt: skip


def parse_number(written: str) -> float | None:
    """Return a finite number that a value is, None if it is something else."""
    try:
        value = float(written)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def make_sort_key(written: str) -> tuple[bool, float, str]:
    """Return the key that sorts numbers by size, before all other values."""
    value = parse_number(written)
    return value is None, value or 0.0, written
