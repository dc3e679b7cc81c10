"""Plots of sweeps: every combination of two parameters as a heat map, all else as parallel axes."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from labkit.view.style import render_figure
from labkit.view.sweep_plots import place_numbers, plot_points_of_sweep

GRID = pd.DataFrame(
    list(product(("100", "20", "5"), ("[linear]", "[lightgbm]"))), columns=["a.b", "c.d"], index=range(1, 7)
)


def test_grid_of_two_parameters_is_a_heat_map_in_the_order_of_numbers() -> None:
    figure = plot_points_of_sweep(GRID, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "mae")
    assert str(figure.get_label()).startswith(
        "Heat map: 6 points by mae in cross-validation. The best is point 1 with 1"
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["5", "20", "100"]
    assert {text.get_text() for text in axes.texts} == {"1", "2", "3", "4", "5", "6"}


@pytest.mark.parametrize(
    "points", [GRID[:5], GRID[["a.b"]], GRID.assign(e="x"), GRID.assign(e=["<b>", "1e400", "nan", "", "0", "-1"])]
)
def test_other_points_are_parallel_axes(points: pd.DataFrame) -> None:
    figure = plot_points_of_sweep(points, list(range(len(points))), "roc_auc")
    assert str(figure.get_label()).startswith("Parallel axes: ")
    assert "higher is better" in figure.fact
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == points.shape[1] + 1]
    assert len(lines) >= len(points)
    heights = np.concatenate([line.get_ydata() for line in lines])
    assert ((heights >= 0) & (heights <= 1)).all()
    assert "<svg" not in render_figure(figure).split("<img")[0]


@pytest.mark.parametrize("scores", [[1.0], [1.0, np.nan], [np.inf, np.nan]])
def test_fewer_than_two_scores_are_a_note(scores: list[float]) -> None:
    assert not plot_points_of_sweep(GRID[: len(scores)], scores, "mae").axes


def test_numbers_over_a_wide_range_are_placed_by_their_logarithm() -> None:
    assert place_numbers(np.array([1.0, 10.0, 100.0]), is_log=True).tolist() == [0.0, 0.5, 1.0]
    assert place_numbers(np.array([3.0, 3.0]), is_log=False).tolist() == [0.5, 0.5]
