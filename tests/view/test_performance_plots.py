"""Groups that got worse since the holdout, as a plot, from rows that are scored and compared."""

from dataclasses import replace

import numpy as np
import pytest
from labkit.monitoring.performance import Performance, WorseGroup
from labkit.view.performance_plots import plot_worse_groups

WORSE = [
    WorseGroup("carrier = XX", 120, 0.9, 0.4, 0.2, 0.8),
    WorseGroup("distance ≥ 2,000", 300, 0.55, 0.45, 0.02, 0.18),
]
COMPARED = Performance(1000, 800, "log_loss", worse=WORSE)


def test_groups_are_drawn_by_how_much_their_loss_has_grown() -> None:
    figure = plot_worse_groups(COMPARED, confidence=0.95)
    assert figure.fact == (
        "2 groups. Largest increase: carrier = XX, with 120 rows and a mean loss of 0.900 against 0.400 on the holdout."
    )
    assert figure.table is not None
    assert figure.table["group"].tolist() == ["carrier = XX", "distance ≥ 2,000"]
    (axes,) = figure.axes
    assert axes.get_xlabel().replace("\n", " ") == "increase of the mean loss, with 95 % interval"
    points = sorted(
        float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_marker() not in ("None", "", None)
    )
    assert points == pytest.approx([0.1, 0.5])


@pytest.mark.parametrize(
    ("found", "fact"),
    [
        (replace(COMPARED, worse=[]), "No group of rows has larger errors, beyond random variation."),
        (replace(COMPARED, worse=None), "Not compared: it needs true values"),
    ],
)
def test_what_cannot_be_drawn_is_a_note(found: Performance, fact: str) -> None:
    assert fact in plot_worse_groups(found, confidence=0.95).fact
