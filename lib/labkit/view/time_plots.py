"""Plots of what changes with time: the target, columns, and a split by time compared with a random one.

For a table without times each function returns a note that states so.
"""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from labkit.data.split import list_days, mark_explored
from labkit.data.stability import LARGE_DRIFT, NOTABLE_DRIFT, compute_by_key, compute_over_time, find_drifted
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.table_columns import find_column_kind
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Data, Target
from labkit.units import format_column, format_difference_alike
from labkit.view.data_plots import rank_columns
from labkit.view.heat_maps import plot_heat
from labkit.view.prose import count, format_number, format_share, join_names, shorten_name
from labkit.view.style import (
    BLUE,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PALE,
    SEQUENTIAL,
    Axes,
    Figure,
    date2num,
    find_ends,
    finish_bars,
    keep_drawable,
    label_point,
    make_figure,
    make_note,
    plot_bars,
    set_ticks,
    set_time_ticks,
    style,
)

if TYPE_CHECKING:
    from labkit.model.evaluation.split_comparison import SplitComparison

NO_TIMES = "This table declares no times (data.time), so changes over time cannot be shown."
NO_MEAN = "No period has a mean that can be drawn."
MOST_LEVELS = 40
PERIODS = {"month": "M", "quarter": "Q", "year": "Y"}
MOST_ROW_CHARACTERS = 60
"""Characters that fit into a row of the heat map, with a blank after each number."""


def format_outcome(value: float, target: Target) -> str:
    """Return a mean of the target in readable form: a share of the class, or a number."""
    return format_share(value) if target.task == "classification" else format_number(value)


def name_outcome(target: Target, subject: Subject) -> str:
    """Return the axis label of the averaged target."""
    if target.task == "regression":
        return f"mean {subject.name_column(target.column)}"
    if target.positive is not None and subject.find_label(target.positive):
        return f"share of {subject.name_rows(of_class=target.positive)}"
    return (
        f"share of {target.column} = {target.positive}"
        if target.positive is not None
        else "share of the most common class"
    )


def plot_over_time(frame: pd.DataFrame, data: Data, *, subject: Subject = GENERIC) -> Figure:
    """Draw the target over time, with the first days of the parts that come after training."""
    found, target, title = (
        compute_over_time(frame, data.target, zone=subject.zone),
        data.target,
        f"{data.target.column} over time",
    )
    if found.empty:
        return make_note(title, NO_TIMES)
    found = found.assign(mean=keep_drawable(found["mean"])).dropna(subset="mean").reset_index(drop=True)
    if found.empty:
        return make_note(title, NO_MEAN)
    known, is_all = compute_explored(frame, data), mark_explored(frame, data).all()
    known = found if known.empty else known
    high, low = known.iloc[int(known["mean"].argmax())], known.iloc[int(known["mean"].argmin())]
    fact = (
        f"Lowest with {format_outcome(low['mean'], target)} in the period from {low['start']:%d %B %Y}, highest with "
    )
    fact += (
        f"{format_outcome(high['mean'], target)} in that from {high['start']:%d %B %Y}; {count(len(known), 'period')}"
    )
    fact += "." if is_all else " of training; later ones in grey."
    with style():
        figure, (axes,) = make_figure(title, fact, form="Line chart", height=2.7)
        axes.plot(found["start"], found["mean"], "o-", color=LINE, markersize=3.5)
        axes.plot(known["start"], known["mean"], "o-", color=BLUE, markersize=3.5)
        mark_parts(axes, list(list_days(data).items()), found["start"].iloc[-1] + pd.Timedelta(days=6))
        axes.set(ylabel=name_outcome(target, subject), ylim=(0, None) if target.task == "classification" else None)
        axes.margins(x=0.01)
        set_time_ticks(axes)
        figure.table = list_means(found, target, subject)
        return figure


def list_means(found: pd.DataFrame, target: Target, subject: Subject) -> pd.DataFrame:
    """Return the drawn means by period."""
    means = [format_outcome(mean, target) for mean in found["mean"]]
    return pd.DataFrame({"from": found["start"].dt.strftime("%Y-%m-%d"), name_outcome(target, subject): means})


def compute_explored(frame: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the target by period of the rows that the exploration may describe, in the periods of the whole table."""
    times = frame[PREDICT_AT]
    explored = frame.loc[mark_explored(frame, data), [data.target.column, PREDICT_AT]]
    found = compute_over_time(explored, data.target, span_days=(times.max() - times.min()).days)
    return found.assign(mean=keep_drawable(found["mean"])).dropna(subset="mean").reset_index(drop=True)


def mark_parts(axes: Axes, days: list[tuple[str, date]], last: pd.Timestamp) -> None:
    """Shade and label the period of each part after training, up to the last time drawn."""
    for number, (name, day) in enumerate(days):
        end = pd.Timestamp(days[number + 1][1]) if number + 1 < len(days) else last
        ends = date2num([pd.Timestamp(day), end])
        axes.axvspan(*ends, color=PALE, alpha=(0.45, 0.9, 0.45)[number], linewidth=0)
        place = (ends[0], (0.99, 0.9, 0.99)[number])
        axes.annotate(
            name, place, (3, 0), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            color=INK, size=9.5,
        )  # fmt: skip


def find_key(frame: pd.DataFrame, profile: pd.DataFrame, target: Target) -> str | None:
    """Return the most predictive category column with few values."""
    for name in rank_columns(profile, target):
        if find_column_kind(frame[name]) == "category" and 2 <= frame[name].nunique() <= MOST_LEVELS:
            return str(name)
    return None


def plot_by_key(frame: pd.DataFrame, profile: pd.DataFrame, target: Target, *, subject: Subject = GENERIC) -> Figure:
    """Draw the target by month for the values of the most predictive category column."""
    key = find_key(frame, profile, target)
    title = f"{target.column} by month{f' and {key}' if key else ''}"
    if PREDICT_AT not in frame or key is None:
        return make_note(title, NO_TIMES if key else "No category column has few enough values.")
    period, table, labels = choose_period(frame, target, key, subject.zone)
    title = f"{target.column} by {period} and {key}"
    if table.empty:
        return make_note(title, f"No value of it has enough {subject.rows} in any period.")
    means = table.mean(axis=1)
    fact = f"Over the {period}s, {table.index[0]} has the highest {name_outcome(target, subject)} "
    fact += f"({format_outcome(means.iloc[0], target)}), {table.index[-1]} the lowest "
    fact += f"({format_outcome(means.iloc[-1], target)}). {join_names(table.index, most=10)}: the most frequent."
    low, high = find_ends(table.to_numpy())
    with style():
        figure, (axes,) = make_figure(title, fact, form="Heat map", height=0.9 + 0.32 * len(table))
        shown = table.set_axis([shorten_name(name, 20) for name in table.index])
        # A little above the largest mean, so that the number in its cell can be read.
        plot_heat(
            axes, shown, labels=labels, span=(low, high + 0.05 * max(high - low, abs(high))), color_map=SEQUENTIAL
        )
        outcome = [[format_outcome(value, target) for value in line] for line in table.to_numpy()]
        figure.table = pd.DataFrame(outcome, columns=table.columns).assign(**{key: list(table.index)})
        figure.table = figure.table[[key, *table.columns]]
        return figure


def choose_period(
    frame: pd.DataFrame, target: Target, key: str, zone: str = "UTC"
) -> tuple[str, pd.DataFrame, np.ndarray]:
    """Return the shortest period whose numbers fit side by side, the means by period, and their labels."""
    found = []
    for period, code in PERIODS.items():
        table = compute_by_key(frame, target, key, period=code, zone=zone)
        table = pd.DataFrame(keep_drawable(table), index=table.index, columns=table.columns)
        table = table.dropna(axis=1, how="all").dropna(how="all")
        labels = [[format_outcome(value, target).removesuffix(" %") for value in line] for line in table.to_numpy()]
        found.append((period, table, np.array(labels)))
        if sum(max(map(len, column)) + 1 for column in zip(*labels, strict=True)) <= MOST_ROW_CHARACTERS:
            break
    return found[-1]


def plot_drift(drift: pd.DataFrame, *, most: int) -> Figure:
    """Draw how far the distribution of each column differs between two periods.

    Parameters
    ----------
    drift
        As `labkit.data.stability.compute_drift` returns it.
    """
    title = "Columns that changed with time"
    if drift.empty:
        return make_note(title, NO_TIMES)
    large = find_drifted(drift)["column"]
    n_lucky = int((drift["drift"] > LARGE_DRIFT).sum()) - len(large)
    notable = int(((drift["drift"] >= NOTABLE_DRIFT) & (drift["drift"] <= LARGE_DRIFT)).sum())
    fact = f"{len(large)} of {count(len(drift), 'column')} drifted strongly (PSI above {LARGE_DRIFT}, "
    fact += f"in orange), {notable} moderately ({NOTABLE_DRIFT} or more). Dashed: these two limits."
    if n_lucky:
        fact += f" {n_lucky} more above {LARGE_DRIFT} may be luck: the rows are few."
    shown = dict(zip(drift["column"].head(most), drift["drift"].head(most), strict=True))
    return plot_bars(
        shown,
        title=title,
        fact=fact,
        unit="population stability index",
        highlight=list(large),
        limits=(NOTABLE_DRIFT, LARGE_DRIFT),
    )


def plot_split_over_time(parts: Mapping[str, pd.DataFrame], data: Data, *, subject: Subject = GENERIC) -> Figure:
    """Draw the target of each part by week or month, and so where the part lies in time."""
    title = "The parts in time"
    filled = {name: part for name, part in parts.items() if PREDICT_AT in part and part[PREDICT_AT].notna().any()}
    if not filled:
        return make_note(title, NO_TIMES)
    times = {name: part[PREDICT_AT].dt.tz_convert(subject.zone) for name, part in filled.items()}
    reach = {name: (of_part.min(), of_part.max()) for name, of_part in times.items()}
    fact = "; ".join(f"{name} {first:%d %b %Y} to {last:%d %b %Y}" for name, (first, last) in reach.items())
    colors = dict(zip(parts, (BLUE, ORANGE, INK, MUTED), strict=False))
    span_days = (max(last for _, last in reach.values()) - min(first for first, _ in reach.values())).days
    with style():
        figure, (axes,) = make_figure(title, f"{fact[0].upper()}{fact[1:]}.", form="Line chart", height=2.1)
        tables = []
        for name, part in filled.items():
            found = compute_over_time(part, data.target, span_days=span_days, zone=subject.zone)
            axes.plot(
                found["start"], keep_drawable(found["mean"]), "o-", color=colors[name], markersize=3.5, label=name
            )
            tables.append(list_means(found, data.target, subject).assign(part=name))
        axes.set(
            ylabel=name_outcome(data.target, subject), ylim=(0, None) if data.target.task == "classification" else None
        )
        axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        set_time_ticks(axes)
        figure.table = pd.concat(tables, ignore_index=True)
        return figure


def plot_split_comparison(comparison: "SplitComparison") -> Figure:
    """Draw the metric under a random split and under the declared split, if they differ beyond random variation."""
    title, values = "What a random split would have claimed", keep_drawable([comparison.random, comparison.declared])
    if not comparison.is_different or np.isnan(values).any():
        return make_note(title, describe_split_comparison(comparison))
    names = ("random split", f"split by {comparison.method}")
    fact = f"A LightGBM on the cleaned columns, under both splits: {describe_split_comparison(comparison)}"
    with style():
        figure, (axes,) = make_figure(title, fact, form="Point chart", height=1.4)
        for row, (value, color) in enumerate(zip(values, (ORANGE, BLUE), strict=True)):
            axes.plot(value, row, "o", color=color, markersize=9)
            label_point(axes, format_column(values)[row], (value, row))
        finish_bars(axes, names, comparison.metric)
        axes.margins(x=0.15)
        set_ticks(axes, 5)
        figure.table = pd.DataFrame({"split": names, comparison.metric: values})
        return figure


def describe_split_comparison(comparison: "SplitComparison") -> str:
    """Return by how much a random split differs from the declared one, or why these rows show no difference."""
    if not comparison.is_compared:
        return f"Not compared: {comparison.reason}."
    one, metric, method = comparison.difference, comparison.metric, comparison.method
    if np.isnan(keep_drawable([one.low, one.high])).any():
        return f"Not compared: there are too few independent rows ({comparison.resampled}) for an interval."
    shown, low, high = format_difference_alike(one.value, one.low, one.high)
    span = f"95 % interval of the difference {low} to {high}"
    resampled = f"both sets of rows resampled by blocks, {comparison.resampled} in the holdout"
    if not comparison.is_different:
        return f"No difference in {metric} between a random split and the split by {method} is shown: the {span} " + (
            f"includes 0 ({resampled})."
        )
    by, word = shown.removeprefix("-"), "higher" if one.value >= 0 else "lower"
    drawn, declared = format_column([comparison.random, comparison.declared])
    return (
        f"a random split has {metric} {drawn}, the split by {method} {declared}: the random one is {by} {word}; the "
        f"{span} ({resampled})."
    )
