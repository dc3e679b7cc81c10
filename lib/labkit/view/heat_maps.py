"""Heat maps: a table of numbers as colours, and the correlation of columns."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.data.quality.profile import MOST_ROWS
from labkit.features.table_columns import find_column_kind
from labkit.view.prose import count, shorten_name
from labkit.view.style import (
    BLACK,
    DIVERGING,
    GROUND,
    WHITE,
    Axes,
    Figure,
    LinearSegmentedColormap,
    make_figure,
    make_note,
    style,
)

MOST_LABELLED = 14
"""Columns up to which a correlation is written into each cell."""


def plot_correlation(frame: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Draw the rank correlation of every pair of number columns, correlated columns side by side."""
    numbers = frame[
        [name for name in columns if find_column_kind(frame[name]) == "number" and frame[name].nunique() > 1]
    ]
    matrix = numbers.iloc[:: len(numbers) // MOST_ROWS + 1].corr(method="spearman").fillna(0)
    names = [str(name) for name in order_alike(matrix)]
    values, size = matrix.loc[names, names].to_numpy(dtype=float), len(names)
    if size < 2:
        fact = "There are fewer than two number columns to compare."
        return make_note("Rank correlation", fact)
    lower = np.tril(np.ones((size, size), dtype=bool), k=-1)
    first, second = divmod(int(np.where(lower, np.abs(values), -1).argmax()), size)
    fact = f"The closest pair is {names[first]} and {names[second]} at {values[first, second]:z.2f}; 1 and "
    fact += "−1 mean that one determines the other's order, 0 that they are unrelated."
    with style():
        title = f"Rank correlation of {count(size, 'number column')}"
        figure, (axes,) = make_figure(title, fact, form="Heat map", height=1.1 + 0.36 * size)
        written = [[f"{value:z.2f}".replace("0.", ".").replace("-", "−") for value in line] for line in values]
        shown = {
            "columns": [shorten_name(name, 18) for name in names[:-1]],
            "index": [shorten_name(name, 22) for name in names],
        }
        table = pd.DataFrame(np.where(lower, values, np.nan)[:, :-1], **shown)  # type: ignore[call-overload]
        labels = np.array(written)[1:, :-1]
        plot_heat(axes, table[1:], labels=labels if size <= MOST_LABELLED else None, span=(-1, 1), color_map=DIVERGING)
        pairs = [(row, column) for row in range(size) for column in range(row)]
        figure.table = pd.DataFrame(
            [(names[row], names[column], written[row][column]) for row, column in pairs],
            columns=["column", "with", "rank correlation"],
        )
        return figure


def plot_heat(
    axes: Axes,
    table: pd.DataFrame,
    *,
    labels: np.ndarray | None,
    span: tuple[float, float],
    color_map: LinearSegmentedColormap,
) -> None:
    """Draw a table as a heat map with a label in each cell, its names along both sides.

    Parameters
    ----------
    labels
        Strings, shape of `table`, or None where they would be too small; cells without a value stay empty.
    span
        Values at the two ends of the colours.
    """
    import seaborn  # takes seconds, and most notebooks draw no heat map

    seaborn.heatmap(
        table, ax=axes, annot=labels, fmt="", cmap=color_map, vmin=span[0], vmax=span[1], mask=table.isna().to_numpy(),
        cbar=labels is None, annot_kws={"size": 9.5}, linewidths=0.5, linecolor=GROUND,
        xticklabels=True, yticklabels=True,
    )  # fmt: skip
    numbers = table.to_numpy(dtype=float)
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        red, green, blue, _ = color_map((numbers[row, column] - span[0]) / (span[1] - span[0] or 1.0))
        # The luminance of WCAG 2.2, roughly; between black and white text at 0.18 either has the same contrast.
        text.set_color(WHITE if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18 else BLACK)
    axes.tick_params(axis="x", rotation=40)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.tick_params(axis="y", rotation=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="", ylabel="")


def order_alike(matrix: pd.DataFrame) -> list[str]:
    """Return the columns of a correlation matrix with correlated ones side by side: a chain from the strongest."""
    left = list(matrix.columns)
    if len(left) < 3:
        return left
    strength = matrix.abs().to_numpy(copy=True)
    np.fill_diagonal(strength, 0)
    chain = [int(strength.sum(axis=0).argmax())]
    while len(chain) < len(left):
        others = [place for place in range(len(left)) if place not in chain]
        chain.append(max(others, key=lambda place: (strength[chain[-1], place], -place)))
    return [left[place] for place in chain]
