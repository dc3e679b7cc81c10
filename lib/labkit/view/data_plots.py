"""Plots of tables: missing values, the target, columns against it, and correlated columns."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.quality.profile import MOST_ROWS
from labkit.features.table_columns import find_column_kind
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Target
from labkit.view.prose import count, format_number, format_share, join_names, shorten_name
from labkit.view.style import (
    BLUE,
    DIVERGING,
    INK,
    MUTED,
    ORANGE,
    PALETTE,
    Axes,
    Figure,
    LinearSegmentedColormap,
    add_legend,
    find_ends,
    finish_bars,
    keep_drawable,
    make_bins,
    make_figure,
    make_note,
    plot_bars,
    set_ticks,
    set_time_ticks,
    spread_edges,
    style,
)

LEAST_PREDICTIVE = 0.01
"""Smallest share of the target's uncertainty that a column named in a summary explains by itself."""
MOST_POINTS = 2000
MOST_BARS = 6
PANELS_PER_ROW = 3
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
    """Draw the share of missing values of the columns that have any; one full bar shows that none has.

    Parameters
    ----------
    profile
        As `labkit.data.quality.profile.profile_table` returns it.
    """
    incomplete = profile[profile["missing_share"] > 0].sort_values("missing_share", ascending=False)
    title = "Missing values by column"
    if not len(incomplete):
        full = {f"all {len(profile)} columns": 1.0}
        fact = f"Nothing is missing: every {subject.row} has a value in every column."
        return plot_bars(full, title=title, fact=fact, unit=f"share of {subject.rows} with a value", as_share=True)
    shares = dict(zip(incomplete["column"].head(most), incomplete["missing_share"].head(most), strict=True))
    rest = f", of which the {len(shares)} emptiest are drawn" if len(incomplete) > len(shares) else ""
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
    reasons = dict(zip(aside["column"], find_aside(aside), strict=True))
    if reasons:
        named = (f"{name} ({reason})" for name, reason in reasons.items())
        fact += f" In grey, cut at the edge: {join_names(named)}."
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
        axes.hist(values, list(bins), color=BLUE, edgecolor="white")
        for place, label, dash in ((middle, "median", "-"), (values.mean(), "mean", ":")):
            axes.axvline(place, color=ORANGE, linestyle=dash, label=f"{label} {format_number(place)}")
        axes.legend()
        axes.set(xlabel=subject.name_column(name), ylabel=subject.rows)
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
        labels = [subject.name_column(name) if axis_of[name] else name for name in columns]
        height = (panel_inches + 0.4 * (labels != list(columns))) * rows + (0.35 if is_classes else 0.1)
        figure, panels = make_figure(title, fact, form="Small multiples", height=height, grid=grid)
        for axes, name, label in zip(panels, columns, labels, strict=False):
            plot_column(axes, known, name, target=target, classes=classes)
            axes.set_title(shorten_name(name, 20))
            axes.set_xlabel("" if label == name else textwrap.fill(label, 26), size=9.5)
        for axes in panels[len(columns) :]:
            axes.set_visible(False)
        if any(is_ordered):
            outcome = f"share of each class's {subject.rows}" if is_classes else target.column
            figure.supylabel(outcome, size=11, color=MUTED)
        if is_classes:
            add_legend(figure, dict(zip(names, PALETTE, strict=False)))
        figure.set_label(f"{figure.get_label()} Drawn: {join_names(columns, most=20)}.")
        return figure


def has_order(values: pd.Series) -> bool:
    """Return whether a column is drawn along an axis: numbers and times with more than two values."""
    return find_column_kind(values) in ("number", "time") and values.nunique() > 2


def describe_panels(target: Target, classes: Sequence[Any], *, has_shapes: bool, has_bars: bool) -> str:
    """Return how to read panels of columns against the target."""
    if classes:
        shapes = f"Where the shapes of {join_names(classes)} differ, the column separates the classes."
        bars = f"Bars: share of {pick_class(classes)}; dashed: of all rows."
    else:
        shapes = f"Orange: median of {target.column} in ten groups of equally many rows. A slope is a hint."
        bars = f"Bars: mean of {target.column}; dashed: of all rows."
    return " ".join(sentence for sentence, is_needed in ((shapes, has_shapes), (bars, has_bars)) if is_needed)


def pick_class(classes: Sequence[Any]) -> Any:
    """Return the class whose share the bars show: the second of two, otherwise the most common."""
    return classes[1] if len(classes) == 2 else classes[0]


def plot_column(axes: Axes, frame: pd.DataFrame, name: str, *, target: Target, classes: Sequence[Any]) -> None:
    """Draw one column against the target on given axes."""
    values, labels = frame[name], frame[target.column]
    if not has_order(values):
        plot_levels(axes, values, labels, classes)
        return
    places = keep_drawable(to_places(values))
    present = ~np.isnan(places)
    places = places[present]
    if target.task == "classification":
        drawn = labels[present].to_numpy()
        bins = list(spread_edges(*find_ends(places), 24))
        for label, color in zip(classes, PALETTE, strict=False):
            chosen = places[drawn == label]
            weights = np.full(len(chosen), 1 / max(len(chosen), 1))
            axes.hist(chosen, bins, weights=weights, color=color, alpha=0.45)
            axes.hist(chosen, bins, weights=weights, color=color, histtype="step", linewidth=1.4)
        axes.set_yticks([])
    else:
        plot_cloud(axes, places, keep_drawable(labels[present]))
    if find_column_kind(values) == "time":
        set_time_ticks(axes)
    else:
        set_ticks(axes, 3)


def to_places(values: pd.Series) -> np.ndarray:
    """Return numbers or times as positions on an axis; times in days since 1970, as the axis counts them."""
    if find_column_kind(values) == "time":
        return ((values - pd.Timestamp(0, tz=values.dt.tz)) / pd.Timedelta(days=1)).to_numpy(dtype=float)
    return values.to_numpy(dtype=float, na_value=np.nan)


def plot_cloud(axes: Axes, places: np.ndarray, outcomes: np.ndarray) -> None:
    """Draw the target over a column as at most 2,000 points, and its median in ten groups of equally many rows."""
    step = len(places) // MOST_POINTS + 1
    axes.plot(places[::step], outcomes[::step], ".", color=BLUE, alpha=0.35, markersize=4, markeredgewidth=0)
    edges = np.unique(np.quantile(places, np.linspace(0, 1, 11))) if len(places) else np.array([])
    slices = np.clip(np.searchsorted(edges, places, side="right") - 1, 0, max(len(edges) - 2, 0))
    middles = pd.DataFrame({"place": places, "outcome": outcomes}).groupby(slices).median()
    axes.plot(middles["place"], middles["outcome"], "o-", color=ORANGE, markersize=3.5)
    axes.locator_params(axis="y", nbins=4)


def plot_levels(axes: Axes, values: pd.Series, labels: pd.Series, classes: Sequence[Any]) -> None:
    """Draw the target by category: share of one class, or the mean; the grey line is for all rows."""
    color, outcome = BLUE, labels
    if classes:
        picked = pick_class(classes)
        color, outcome = PALETTE[list(classes).index(picked)], labels == picked
    outcome = pd.Series(keep_drawable(outcome), index=outcome.index)
    common = list(values.value_counts().index[:MOST_BARS])
    means = outcome.groupby(values, observed=True).mean().reindex(common).fillna(0)
    axes.barh(range(len(common)), means, color=color, height=0.8, alpha=0.4)
    if outcome.notna().any():
        axes.axvline(outcome.mean(), color=MUTED, linewidth=1.2, linestyle="--")
    finish_bars(axes, [], "")
    for row, label in enumerate(common):
        written = format_number(label) if isinstance(label, int | float) else shorten_name(label, 22)
        axes.annotate(written, (0, row), (5, 0), textcoords="offset points", va="center", color=INK, size=10)
    axes.set_ylim(len(common) - 0.4, -0.6)
    set_ticks(axes, 3, as_share=bool(classes))


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
        return plot_bars({}, title="Rank correlation", fact=fact, unit="")
    lower = np.tril(np.ones((size, size), dtype=bool), k=-1)
    first, second = divmod(int(np.where(lower, np.abs(values), -1).argmax()), size)
    fact = f"The closest pair is {names[first]} and {names[second]} at {values[first, second]:.2f}; 1 and "
    fact += "−1 mean that one determines the other's order, 0 that they are unrelated."
    with style():
        title = f"Rank correlation of {count(size, 'number column')}"
        figure, (axes,) = make_figure(title, fact, form="Heat map", height=1.1 + 0.36 * size)
        written = [[f"{value:.2f}".replace("0.", ".").replace("-", "−") for value in line] for line in values]
        shown = {
            "columns": [shorten_name(name, 18) for name in names[:-1]],
            "index": [shorten_name(name, 22) for name in names],
        }
        table = pd.DataFrame(np.where(lower, values, np.nan)[:, :-1], **shown)  # type: ignore[call-overload]
        labels = np.array(written)[1:, :-1]
        plot_heat(axes, table[1:], labels=labels, span=(-1, 1), color_map=DIVERGING, size=9.5 if size <= 14 else 6.5)
        return figure


def plot_heat(
    axes: Axes,
    table: pd.DataFrame,
    *,
    labels: np.ndarray,
    span: tuple[float, float],
    color_map: LinearSegmentedColormap,
    size: float = 9.5,
) -> None:
    """Draw a table as a heat map with a label in each cell, its names along both sides.

    Parameters
    ----------
    labels
        Strings, shape of `table`; cells without a value stay empty.
    span
        Values at the two ends of the colours.
    """
    import seaborn  # takes seconds, and most notebooks draw no heat map

    seaborn.heatmap(
        table, ax=axes, annot=labels, fmt="", cmap=color_map, vmin=span[0], vmax=span[1], mask=table.isna().to_numpy(),
        cbar=False, annot_kws={"size": size}, linewidths=0.5, xticklabels=True, yticklabels=True,
    )  # fmt: skip
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
