"""Plots of a check of the champion: how unusual windows are, and where a number lies now and in the reference."""

import numpy as np
import pandas as pd

from labkit.monitoring.drift import ONCE, Drift, Key, name_series, scale_thresholds
from labkit.monitoring.health import Health
from labkit.monitoring.reference_profile import Profile
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_count
from labkit.view.prose import format_number, shorten_name
from labkit.view.style import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    Figure,
    add_legend,
    date2num,
    make_figure,
    make_note,
    set_time_ticks,
    show,
    style,
)

MOST_SERIES = 3
NOT_JUDGED = "No window could be compared with a calibrated reference, so drift was not judged."


def plot_windows(health: Health) -> Figure:
    """Draw how unusual each window is, of the series that come nearest to an alarm.

    Returns
    -------
    Figure
        A note where drift was not judged.
    """
    drift, windows = health.drift, health.windows
    title = "How unusual each window is"
    if drift is None or windows is None or not health.is_drift_judged:
        return make_note(title, NOT_JUDGED)
    numbers = drift.counts.numbers
    if len(numbers) < 2:
        return make_note(title, "Only one window was judged; the checks say what it shows.")
    names = [windows.name(int(number)) for number in numbers]
    x = numbers.astype(float) if windows.days is None else date2num(pd.to_datetime(names))
    chosen, (twice, once) = choose_highest(drift), scale_thresholds(len(drift.usual))
    n_alarms = len({change.column for change in drift.changes})
    fact = f"{format_count(len(numbers), 'window')}, {format_count(n_alarms, 'column')} with an alarm. Grey lines: z "
    fact += f"above {twice:.3g} in two windows in a row, or above {once:.3g} in one, alarms"
    with style():
        figure, (axes,) = make_figure(title, f"{fact}.", form="Lines", height=3.0)
        colors = dict(zip(map(name_series, chosen), PALETTE, strict=False))
        drawn = {name_series(key): np.minimum(drift.scores[key], 3 * ONCE) for key in chosen}
        for name, scores in drawn.items():
            axes.plot(x, scores, color=colors[name], marker="o", markersize=3, linewidth=1.2)
        for threshold in (twice, once):
            axes.axhline(threshold, color=GREY, linewidth=1, linestyle="--")
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"z, at most {3 * ONCE:.0f}")
        if windows.days is None:
            axes.set_xlabel("window")
        else:
            set_time_ticks(axes)
        add_legend(figure, {shorten_name(name, 30): color for name, color in colors.items()})
        figure.table = pd.DataFrame({"window": names, **drawn})
        return figure


def choose_highest(drift: Drift) -> list[Key]:
    """Return the series to draw: those that alarm, then those with the highest score, at most `MOST_SERIES`."""
    alarms = [(change.column, change.kind) for change in drift.changes]
    rest = sorted(drift.scores, key=lambda key: -float(np.nanmax(drift.scores[key], initial=0.0)))
    return list(dict.fromkeys([*alarms, *rest]))[:MOST_SERIES]


def plot_number(profile: Profile, health: Health, name: str, *, subject: Subject = GENERIC) -> Figure:
    """Draw the share of rows up to each value of a numeric column, in the reference and in the judged windows.

    Returns
    -------
    Figure
        A note for a column that is no number, or of which nothing is known.
    """
    cells, drift = profile.inputs.layout.get(name), health.drift
    title = f"{shorten_name(name, 60)}: reference and now"
    if cells is None or drift is None or not len(cells.edges):
        return make_note(title, "There is no distribution of numbers to compare.")
    shares = {}
    for label, counts in (("reference", profile.inputs.counts), ("now", drift.counts)):
        total = counts.cells[name].sum(axis=0)
        if not total.sum():
            return make_note(title, f"{label.capitalize()}: no value is known.")
        shares[label] = np.cumsum(total)[:-1] / total.sum()
    places = [min(int(np.searchsorted(one, 0.5)), len(one) - 1) for one in shares.values()]
    medians = [format_number(float(cells.edges[place])) for place in places]
    fact = f"Half of the values are up to {medians[0]} in the reference, and up to {medians[1]} now. Drawn "
    fact += "from the lowest to the highest quantile of the reference"
    colors = {"reference": BLUE, "now": ORANGE}
    with style():
        figure, (axes,) = make_figure(title, f"{fact}.", form="Two lines", height=2.6)
        for label, cumulative in shares.items():
            axes.step(cells.edges, cumulative, where="post", color=colors[label], linewidth=1.5)
        axes.set_ylim(0, 1)
        axes.set_xlabel(subject.name_column(name))
        axes.set_ylabel("share of rows")
        add_legend(figure, colors)
        figure.table = pd.DataFrame({name: cells.edges, **shares}).iloc[:: max(len(cells.edges) // 20, 1)]
        return figure


def show_numbers(profile: Profile, health: Health, *, subject: Subject = GENERIC) -> None:
    """Show `plot_number` of the numeric columns that alarm; without an alarm, of the nearest to one."""
    for name in list_changed_numbers(profile, health):
        show(plot_number(profile, health, name, subject=subject))


def list_changed_numbers(profile: Profile, health: Health) -> list[str]:
    """Return the numeric columns whose series alarm, the most striking first; without an alarm, that nearest to one."""
    drift = health.drift
    if drift is None:
        return []
    ranked = [key[0] for key in choose_highest(drift)] if not drift.changes else [one.column for one in drift.changes]
    numbers = [name for name in dict.fromkeys(ranked) if name and len(profile.inputs.layout[name].edges)]
    return numbers[:MOST_SERIES] or [name for name, cells in profile.inputs.layout.items() if len(cells.edges)][:1]
