"""Plots of tables: missing values, the target, columns against it, and correlated columns."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from labkit.features.table_columns import find_column_kind
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Target
from labkit.units import format_clock
from labkit.view.bins import find_edges, make_bins, spread_edges
from labkit.view.heat_maps import order_alike as order_alike
from labkit.view.heat_maps import plot_correlation as plot_correlation
from labkit.view.prose import count, format_column, format_number, format_share, join_names, shorten_name
from labkit.view.style import (
    BLUE,
    GROUND,
    INK,
    MUTED,
    ORANGE,
    PALETTE,
    Axes,
    Figure,
    add_legend,
    find_ends,
    finish_bars,
    keep_drawable,
    make_figure,
    make_note,
    plot_bars,
    plot_points,
    set_ticks,
    set_time_ticks,
    style,
)

LEAST_PREDICTIVE = 0.01
"""Smallest share of the target's uncertainty that a column named in a summary explains by itself."""
CLOCK_STEPS, MOST_CLOCK_STEPS = (5, 15, 30, 60, 120, 180, 360, 720), 4
"""Minutes between the ticks of an axis of times of the day, and how many of these an axis may span."""
MOST_POINTS = 2000
MOST_BARS = 6
PANELS_PER_ROW = 3
MOST_DISTINCT = 0.9
"""Share of distinct values above which a column names its rows."""
MOST_ASIDE = 4
"""Columns that are no usable inputs but are drawn beside the usable ones."""


def rank_columns(profile: pd.DataFrame, target: Target) -> list[str]:
    """Return all columns except the target, the most predictive first and those set aside last."""
    ranked = profile.sort_values("score", ascending=False, kind="stable", na_position="last")
    ranked = ranked[ranked["column"] != target.column]
    is_aside = find_aside(ranked) != ""
    return [*ranked.loc[~is_aside, "column"], *ranked.loc[is_aside, "column"]]


def find_aside(profile: pd.DataFrame) -> pd.Series:
    """Return why each column is no usable input, empty for usable ones; see `labkit.data.quality.issues.set_aside`."""
    return profile["set_aside"] if "set_aside" in profile else pd.Series("", index=profile.index)


def describe_best(profile: pd.DataFrame, target: Target) -> str:
    """Return which usable column explains most of the target by itself, or that none does."""
    usable = profile[find_aside(profile) == ""]
    best = next(iter(rank_columns(usable, target)), None)
    score = 0.0 if best is None else float(usable.set_index("column")["score"].fillna(0)[best])
    if score < LEAST_PREDICTIVE:
        return f"no usable column explains {format_share(LEAST_PREDICTIVE)} by itself"
    return f"best usable column {best}, explains {format_share(score)} by itself"


def plot_missing(profile: pd.DataFrame, *, most: int, subject: Subject = GENERIC) -> Figure:
    """Draw the share of missing values of the columns that have any, or state that none has.

    Parameters
    ----------
    profile
        As `labkit.data.quality.profile.profile_table` returns it.
    """
    incomplete = profile[profile["missing_share"] > 0].sort_values("missing_share", ascending=False)
    title = "Missing values by column"
    if not len(incomplete):
        return make_note(title, f"Nothing is missing: every {subject.row} has a value in every column.")
    shares = dict(zip(incomplete["column"].head(most), incomplete["missing_share"].head(most), strict=True))
    rest = f", of which the {len(shares)} with most missing values are drawn" if len(incomplete) > len(shares) else ""
    fact = f"{len(incomplete)} of {count(len(profile), 'column')} have missing values{rest}; "
    fact += f"{incomplete['column'].iloc[0]} has the most."
    return plot_bars(shares, title=title, fact=fact, unit=f"share of {subject.rows} without a value", as_share=True)


def plot_scores(
    profile: pd.DataFrame, *, most: int, highlight: Sequence[str] = (), title: str = "How much single columns explain"
) -> Figure:
    """Draw how much of the target each column explains by itself, best first; those set aside last and in grey."""
    ranked = profile.dropna(subset="score").sort_values("score", ascending=False, kind="stable")
    aside = ranked[find_aside(ranked) != ""].head(MOST_ASIDE)
    usable = ranked[find_aside(ranked) == ""].head(max(most - len(aside), 1))
    shown = pd.concat([usable, aside])
    scores = dict(zip(shown["column"], shown["score"], strict=True))
    kind, fact = "usable" if len(aside) else "single", "There is no usable column to score."
    if len(usable):
        best = usable["column"].iloc[0]
        fact = f"The best {kind} column, {best}, explains {format_share(scores[best])} of the target's uncertainty."
        if not scores[best] > 0:
            fact = f"No {kind} column explains anything of the target's uncertainty."
    reasons = dict(zip(aside["column"], find_aside(aside), strict=True))
    if reasons:
        named = (f"{name} ({reason})" for name, reason in reasons.items())
        is_cut = aside["score"].max() > usable["score"].max()
        fact += f" In grey{', cut at the edge' * bool(is_cut)}: {join_names(named)}."
    if picked := [name for name in highlight if name in scores]:
        fact += f" In orange: {join_names(picked)}."
    unit = "share of the target's uncertainty explained"
    return plot_bars(scores, title=title, fact=fact, unit=unit, as_share=True, highlight=highlight, muted=list(reasons))


def list_classes(values: pd.Series, positive: Any = None, most: int = len(PALETTE)) -> list[Any]:
    """Return the classes in the order drawn: of two the positive class second, otherwise the largest first."""
    classes = list(values.value_counts().index[:most])
    if positive in classes and len(classes) == 2:
        return [label for label in classes if label != positive] + [positive]
    return classes


def plot_target(labels: pd.Series, *, task: str, positive: Any = None, subject: Subject = GENERIC) -> Figure:
    """Draw the distribution of the target: a histogram with mean and median, or the sizes of the classes."""
    name, known = str(labels.name), labels.dropna()
    title = f"The target: {name}"
    if task == "classification" and len(known):
        sizes = known.value_counts()
        fact = f"{count(len(sizes), 'class', 'classes')}; the largest, {subject.name_class(sizes.index[0])}, holds "
        fact += f"{format_share(sizes.iloc[0] / len(known))} of {subject.count_rows(len(known))}."
        shown = {subject.name_class(label): float(number) for label, number in sizes.head(12).items()}
        picked = [] if positive is None else [subject.name_class(positive)]
        return plot_bars(shown, title=title, fact=fact, unit=subject.rows, highlight=picked)
    values = keep_drawable(known) if task == "regression" else np.zeros(0)
    values = values[~np.isnan(values)]
    if not len(values):
        return make_note(title, f"No {subject.row} has a value that can be drawn.")
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    fact = f"Nine {subject.rows} of ten lie between {format_number(low)} and {format_number(high)}; half lie below "
    fact += f"{format_number(middle)}.{describe_undrawn(len(known) - len(values))}"
    with style():
        figure, (axes,) = make_figure(title, fact, form="Histogram", height=2.9)
        bins = make_bins(values) if len(np.unique(values)) > 2 else spread_edges(*find_ends(values), 2)
        sizes, edges, _ = axes.hist(values, list(bins), color=BLUE, edgecolor=GROUND)
        for place, label, dash in ((middle, "median", "-"), (values.mean(), "mean", ":")):
            axes.axvline(place, color=ORANGE, linestyle=dash, label=f"{label} {format_number(place)}")
        axes.legend()
        axes.set(xlabel=subject.name_column(name), ylabel=subject.rows)
        figure.table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], subject.rows: sizes})
        return figure


def describe_undrawn(number: int) -> str:
    """Return how many values are infinite or too large to be drawn; an empty string if there are none."""
    return f" Not drawn: {count(number, 'value')} that {'is' if number == 1 else 'are'} infinite." if number else ""


def plot_columns(
    frame: pd.DataFrame,
    columns: Sequence[str],
    target: Target,
    *,
    panel_inches: float = 1.75,
    subject: Subject = GENERIC,
) -> Figure:
    """Draw columns against the target, one panel each.

    Numbers by class as histograms, numbers against a numeric target as points with its median; categories as the
    share of the positive class, or the mean of the target.

    Parameters
    ----------
    panel_inches
        Height of one panel.
    """
    known = frame.dropna(subset=target.column)
    title = f"{columns[0] if len(columns) == 1 else count(len(columns), 'column')} against {target.column}"
    if not len(columns) or not len(known):
        return make_note(
            title, "There is no column to draw." if len(known) else f"No {subject.row} has a target value."
        )
    rows, is_classes = -(-len(columns) // PANELS_PER_ROW), target.task == "classification"
    classes = list_classes(known[target.column], target.positive) if is_classes else []
    is_ordered = [has_order(known[name]) for name in columns]
    names = [subject.name_class(label) for label in classes]
    fact = describe_panels(target, names, has_shapes=any(is_ordered), has_bars=not all(is_ordered))
    with style():
        grid = (rows, min(PANELS_PER_ROW, len(columns)))
        axis_of = dict(zip(columns, is_ordered, strict=True))
        labels = [subject.name_axis(name) if axis_of[name] else name for name in columns]
        height = (panel_inches + 0.4 * (labels != list(columns))) * rows + (0.35 if is_classes else 0.1)
        figure, panels = make_figure(title, fact, form="Small multiples", height=height, grid=grid)
        tables = []
        for axes, name, label in zip(panels, columns, labels, strict=False):
            drawn = plot_column(axes, known, name, target=target, classes=classes, subject=subject)
            tables.append(drawn.astype(object).assign(column=name))
            axes.set_title(shorten_name(name, 20))
            axes.set_xlabel("" if label == name else textwrap.fill(label, 26), size=9.5)
        for axes in panels[len(columns) :]:
            axes.set_visible(False)
        if any(is_ordered):
            outcome = f"share of each class's {subject.rows}" if is_classes else target.column
            figure.supylabel(outcome, size=11, color=MUTED)
        if is_classes:
            add_legend(figure, dict(zip(names, PALETTE, strict=False)))
        figure.table = merge_tables(tables)
        figure.set_label(f"{figure.get_label()} Drawn: {join_names(columns, most=20)}.")
        return figure


def has_order(values: pd.Series) -> bool:
    """Return whether a column is drawn along an axis: numbers and times with more than two values."""
    return find_column_kind(values) in ("number", "time") and values.nunique() > 2


def describe_panels(target: Target, classes: Sequence[Any], *, has_shapes: bool, has_bars: bool) -> str:
    """Return how to read panels of columns against the target."""
    if classes:
        shapes = f"Where the shapes of {join_names(classes)} differ, the column separates the classes."
        bars = f"Bars: share of {pick_class(classes)}; dashes: of all rows."
    else:
        shapes = f"Orange: median of {target.column} in ten groups of equally many rows. A slope is a hint."
        bars = f"Bars: mean of {target.column}; dashes: of all rows."
    return " ".join(sentence for sentence, is_needed in ((shapes, has_shapes), (bars, has_bars)) if is_needed)


def pick_class(classes: Sequence[Any]) -> Any:
    """Return the class whose share the bars show: the second of two, otherwise the most common."""
    return classes[1] if len(classes) == 2 else classes[0]


def merge_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the numbers of several panels as one table, the panel's column first."""
    merged = pd.concat(tables, ignore_index=True)
    return merged[["column", *(name for name in merged if name != "column")]]


def plot_column(
    axes: Axes, frame: pd.DataFrame, name: str, *, target: Target, classes: Sequence[Any], subject: Subject = GENERIC
) -> pd.DataFrame:
    """Draw one column against the target on given axes and return the numbers drawn, of points their medians."""
    values, labels = frame[name], frame[target.column]
    if not has_order(values):
        return plot_levels(axes, values, labels, classes)
    places = keep_drawable(to_places(values))
    present = ~np.isnan(places)
    places = places[present]
    if target.task == "classification":
        drawn = labels[present].to_numpy()
        edges = find_edges(places, 24)
        table = pd.DataFrame({"value": [name_place(edge, values, subject) for edge in (edges[:-1] + edges[1:]) / 2]})
        for label, color in zip(classes, PALETTE, strict=False):
            chosen = places[drawn == label]
            weights = np.full(len(chosen), 1 / max(len(chosen), 1))
            axes.hist(chosen, list(edges), weights=weights, color=color, alpha=0.45)
            shares, *_ = axes.hist(chosen, list(edges), weights=weights, color=color, histtype="step", linewidth=1.4)
            table[f"share of {subject.name_class(label)}"] = [format_share(share, 1) for share in np.asarray(shares)]
        axes.set_yticks([])
    else:
        middles = plot_cloud(axes, places, keep_drawable(labels[present]))
        table = pd.DataFrame({"value": [name_place(place, values, subject) for place in middles["place"]]})
        table[f"median {target.column}"] = middles["outcome"].to_numpy()
    if find_column_kind(values) == "time":
        set_time_ticks(axes)
    elif subject.is_clock(name) and 0 <= min(places, default=-1) <= max(places, default=0) <= 1440:
        set_clock_ticks(axes)
    else:
        set_ticks(axes, 3)
    return table


def set_clock_ticks(axes: Axes) -> None:
    """Set a few round times of the day as ticks of the x axis, which counts minutes after midnight."""
    low, high = axes.get_xlim()
    step = next((step for step in CLOCK_STEPS if (high - low) / step <= MOST_CLOCK_STEPS), CLOCK_STEPS[-1])
    axes.set_xticks(np.arange(np.ceil(low / step) * step, high, step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: format_clock(minutes)))


def name_place(place: float, values: pd.Series, subject: Subject = GENERIC) -> str:
    """Return a position on the axis of a column in readable form: a number, a day or a time of the day."""
    if find_column_kind(values) == "time":
        return f"{pd.Timestamp(0) + pd.Timedelta(days=place):%Y-%m-%d}"
    return format_clock(round(place)) if subject.is_clock(str(values.name)) else format_number(place)


def to_places(values: pd.Series) -> np.ndarray:
    """Return numbers or times as positions on an axis; times in days since 1970, as the axis counts them."""
    if find_column_kind(values) == "time":
        return ((values - pd.Timestamp(0, tz=values.dt.tz)) / pd.Timedelta(days=1)).to_numpy(dtype=float)
    return values.to_numpy(dtype=float, na_value=np.nan)


def plot_cloud(axes: Axes, places: np.ndarray, outcomes: np.ndarray) -> pd.DataFrame:
    """Draw the target over a column as at most 2,000 points, and return its median in ten groups of as many rows."""
    step = len(places) // MOST_POINTS + 1
    plot_points(axes, places[::step], outcomes[::step], size=2.6)
    edges = np.unique(np.quantile(places, np.linspace(0, 1, 11))) if len(places) else np.array([])
    slices = np.clip(np.searchsorted(edges, places, side="right") - 1, 0, max(len(edges) - 2, 0))
    middles = pd.DataFrame({"place": places, "outcome": outcomes}).groupby(slices).median()
    axes.plot(middles["place"], middles["outcome"], "o-", color=ORANGE, markersize=3.5)
    axes.locator_params(axis="y", nbins=4)
    return middles


def plot_levels(axes: Axes, values: pd.Series, labels: pd.Series, classes: Sequence[Any]) -> pd.DataFrame:
    """Draw the target by category, its name above the bar: share of one class, or the mean; a dash for all rows.

    A column with a different value in nearly each row names the rows; it has no categories to draw.
    """
    color, outcome = BLUE, labels
    if classes:
        picked = pick_class(classes)
        color, outcome = PALETTE[list(classes).index(picked)], labels == picked
    outcome = pd.Series(keep_drawable(outcome), index=outcome.index)
    n_known = int(values.notna().sum())
    common = [] if n_known > MOST_BARS and values.nunique() > MOST_DISTINCT * n_known else list_levels(values)
    if not common:
        reason = "nearly every value differs" if n_known else "no value"
        axes.set_xticks([])
        axes.annotate(reason, (0, 0.5), xycoords="axes fraction", va="center", color=MUTED, size=10)
    means = outcome.groupby(values, observed=True).mean().reindex(common)
    axes.barh(np.arange(len(common)) + 0.24, means.fillna(0), color=color, height=0.42)
    if outcome.notna().any():
        # One dash on each bar: a line through all rows would strike through the names.
        rows = np.arange(len(common))
        axes.vlines(np.full(len(common), outcome.mean()), rows, rows + 0.48, color=MUTED, linewidth=1.4)
    finish_bars(axes, [], "")
    for row, label in enumerate(common):
        axes.annotate(
            name_level(label), (0, row - 0.22), (1, 0), textcoords="offset points", va="center", color=INK, size=10
        )
    axes.set_ylim(max(len(common), 1) - 0.4, -0.6)
    if common:
        set_ticks(axes, 3, as_share=bool(classes))
    shown = [format_share(mean) for mean in means] if classes else format_column(means)
    return pd.DataFrame({"value": [name_level(label) for label in common], "share" if classes else "mean": shown})


def list_levels(values: pd.Series) -> list[Any]:
    """Return the most common values of a column."""
    return list(values.value_counts().index[:MOST_BARS])


def name_level(label: Any) -> str:
    """Return a category in readable form."""
    if isinstance(label, int | float) and not isinstance(label, bool):
        return format_number(label)
    return shorten_name(label, 22) if str(label).strip() else "(empty)"
