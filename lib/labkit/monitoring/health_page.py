"""The page of the latest check of an experiment's champion."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from labkit import paths
from labkit.checks import render_checks
from labkit.monitoring.champion_check import Checked
from labkit.monitoring.drift import ONCE, TWICE, Drift, Key, name_series, scale_thresholds
from labkit.monitoring.health import Health
from labkit.monitoring.performance_checks import TrackRecord
from labkit.monitoring.window_counts import Windows
from labkit.run.reports import render
from labkit.run.reports.index import list_page_links
from labkit.run.reports.line_plot import LinePlot, Series
from labkit.units import format_alike, format_count, format_difference, format_number

PAGE = "monitoring.html"
MOST_CHECKS = 20
MOST_GROUPS = 10
"""Groups in view; a fold has the rest."""
HIGHEST = 3 * ONCE
"""Largest z that is drawn: higher ones would flatten the thresholds."""
MEANING = {
    "ok": "Nothing that needs attention.",
    "watch": "Something has changed. Changes of the inputs alone do not show that the model got worse.",
    "retrain": "Train again on the rows up to now; the gate decides whether the new model is better.",
    "stop": "Do not rely on predictions for these rows until this is corrected.",
}
WATCHED_RETRAIN = (
    "There are enough new rows to train again, but some of their checks need attention. Resolve these first: a model "
    "that is trained on faulty rows learns the faults."
)


def write_health(checked: Checked) -> Path:
    """Write the page of a check beside the reports of the experiment, and return its path."""
    record, health = checked.record, checked.health
    path = paths.find_reports_dir(record["experiment"]) / PAGE
    render.write_page(
        path,
        "monitoring.html.j2",
        experiment=record["experiment"],
        record=record,
        meaning=describe_verdict(health),
        checks=Markup(render_checks(health.checks)),
        plot=make_health_plot(checked),
        thresholds=(TWICE, ONCE),
        history=[*checked.history, record][: -MOST_CHECKS - 1 : -1],
        profile=checked.profile,
        track_record=describe_track_record(record["performance"]["track_record"]),
        groups=checked.holdout_comparison,
        most_groups=MOST_GROUPS,
        show=show_number,
        differ=format_difference,
        align=format_alike,
        span=show_span,
        neighbours=list_page_links(path.parent),
    )
    return path


def show_number(value: float | None) -> str:
    """Return a number for a cell; empty for none."""
    return "" if value is None else format_number(value)


def show_span(interval: Mapping[str, float | None]) -> str:
    """Return the limits of an interval for a cell."""
    low, high = interval["low"], interval["high"]
    return "none" if low is None or high is None else f"{format_number(low)} to {format_number(high)}"


def describe_track_record(found: Mapping[str, Any] | None) -> str:
    """Return how well the expected metric has followed true values, as a sentence; empty if it never was compared."""
    if found is None:
        return ""
    said = str(TrackRecord(**found))
    return f"{said[0].upper()}{said[1:]}."


def describe_verdict(health: Health) -> str:
    """Return what a verdict means, and does not mean."""
    if health.verdict == "ok" and not health.is_drift_judged:
        return "The rows keep the contract. Whether they have drifted was not judged, see the rows below."
    if health.verdict == "retrain" and any(
        one.needs_attention and one.definition.section != "Age" for one in health.checks
    ):
        return WATCHED_RETRAIN
    return MEANING[health.verdict]


def make_health_plot(checked: Checked) -> LinePlot | None:
    """Return the plot of the most striking series over the windows; None without calibrated windows."""
    drift, windows = checked.health.drift, checked.health.windows
    if drift is None or windows is None or not drift.usual or len(drift.counts.numbers) < 2:
        return None
    key = choose_series(drift, {one.column for one in checked.health.units})
    names = [windows.name(number) for number in drift.counts.numbers.tolist()]
    places, (twice, _) = range(len(names)), scale_thresholds(len(drift.usual))
    heights = np.minimum(drift.scores[key], HIGHEST).tolist()
    is_one_year = windows.days is not None and len({name[:4] for name in names}) == 1
    return LinePlot(
        title="How unusual each window is",
        fact=describe_plot(drift, windows, key),
        x_label=f"window of {names[0][:4]}" if is_one_year else "window",
        y_label=f"z, at most {HIGHEST:.0f}",
        series=[
            Series(name_series(key), places, heights, has_marks=len(places) <= 60),
            Series("alarm if reached twice in a row", places, [twice] * len(places)),
        ],
        x_names=[name[5:] if is_one_year else name for name in names],
    )


def choose_series(drift: Drift, units: Collection[str]) -> Key:
    """Return the series to draw: that of a unit, else the one that alarms longest, else the one nearest to it."""
    if drift.changes:
        longest = max(drift.changes, key=lambda one: (one.column in units, one.n_windows, one.score))
        return longest.column, longest.kind
    heights: dict[Key, float] = {
        key: float(np.nanmax(scores, initial=0.0)) * bool((drift.effects[key] >= drift.usual[key].floor).any())
        for key, scores in drift.scores.items()
    }
    return max(heights, key=lambda key: (heights[key], key))


def describe_plot(drift: Drift, windows: Windows, key: Key) -> str:
    """Return what the plot shows in words."""
    n_windows = format_count(len(drift.counts.numbers), "window")
    found = [one for one in drift.changes if (one.column, one.kind) == key]
    if not found:
        return f"No series alarms in {n_windows}; the nearest is {name_series(key)}."
    return f"{name_series(key)} alarms in {found[0].n_windows} of {n_windows}, first {windows.name(found[0].first)}."
