"""The page of the latest check of an experiment's champion."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from labkit import paths
from labkit.checks import render_checks
from labkit.monitoring.champion_check import Checked
from labkit.monitoring.drift import ONCE, TWICE, Drift, Key, name_series, scale_thresholds
from labkit.monitoring.window_counts import Windows
from labkit.run.reports import render
from labkit.run.reports.index import list_page_links
from labkit.run.reports.line_plot import LinePlot, Series

PAGE = "monitoring.html"
MOST_DRAWN = 3
MOST_CHECKS = 20
HIGHEST = 3 * ONCE
"""Largest z that is drawn: higher ones would flatten the thresholds."""
MEANING = {
    "ok": "Nothing that needs attention.",
    "watch": "Something has changed. Changes of the inputs alone do not show that the model got worse.",
    "retrain": "Train again on the rows up to now; the gate decides whether the new model is better.",
    "stop": "Do not rely on predictions for these rows until this is corrected.",
}


def write_health(checked: Checked) -> Path:
    """Write the page of a check beside the reports of the experiment, and return its path."""
    record, health = checked.record, checked.health
    path = paths.find_reports_dir(record["experiment"]) / PAGE
    render.write_page(
        path,
        "monitoring.html.j2",
        experiment=record["experiment"],
        record=record,
        meaning=MEANING[health.verdict],
        checks=Markup(render_checks(health.checks)),
        plot=make_health_plot(checked),
        thresholds=(TWICE, ONCE),
        history=[*checked.history, record][: -MOST_CHECKS - 1 : -1],
        profile=checked.profile,
        neighbours=list_page_links(path.parent),
    )
    return path


def make_health_plot(checked: Checked) -> LinePlot | None:
    """Return the plot of the most striking series over the windows; None without calibrated windows."""
    drift, windows = checked.health.drift, checked.health.windows
    if drift is None or windows is None or not drift.usual or len(drift.counts.numbers) < 2:
        return None
    chosen = choose_series(drift)
    places = range(len(drift.counts.numbers))
    lines = [
        Series(name_series(key), places, np.minimum(drift.scores[key], HIGHEST).tolist(), has_marks=len(places) <= 60)
        for key in chosen
    ]
    twice, once = scale_thresholds(len(drift.usual))
    limits = [
        Series(name, places, [height] * len(places))
        for name, height in (("alarm, twice in a row", twice), ("alarm, once", once))
    ]
    return LinePlot(
        title="How unusual each window is",
        fact=describe_plot(drift, windows, chosen[0]),
        x_label="window",
        y_label="z: distance from usual windows",
        series=[*lines, *limits],
        x_names=[windows.name(number) for number in drift.counts.numbers.tolist()],
    )


def choose_series(drift: Drift) -> list[Key]:
    """Return the series to draw: those that alarm, or else the one that comes nearest to it."""
    changed: list[Key] = [(change.column, change.kind) for change in drift.changes[:MOST_DRAWN]]
    if changed:
        return changed
    heights: dict[Key, Any] = {
        key: np.nanmax(scores, initial=0.0) * bool((drift.effects[key] >= drift.usual[key].floor).any())
        for key, scores in drift.scores.items()
    }
    return [max(heights, key=lambda key: (heights[key], key))]


def describe_plot(drift: Drift, windows: Windows, key: Key) -> str:
    """Return what the plot shows in words."""
    n_windows = len(drift.counts.numbers)
    if not drift.changes:
        return f"No series alarms in {n_windows} windows; the nearest is {name_series(key)}."
    change = drift.changes[0]
    return (
        f"{name_series(key)} alarms in {change.n_windows} of {n_windows} windows, first {windows.name(change.first)}."
    )
