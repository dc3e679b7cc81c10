"""Plots and sentences about groups of rows that have to be treated alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.fairness import ACCEPTED, TOO_LARGE, judge_differences
from labkit.params.subject import GENERIC, Subject
from labkit.view.explanation_plots import describe_intervals
from labkit.view.prose import escape, format_column, format_interval, shorten_name
from labkit.view.style import BLUE, MUTED, Figure, finish_bars, keep_drawable, make_figure, make_note, set_ticks, style


def plot_groups(table: pd.DataFrame, *, confidence: float, most: int = 20, subject: Subject = GENERIC) -> Figure:
    """Draw how the model treats the groups of one column, a panel for each rate, with intervals.

    Parameters
    ----------
    table
        Lines of one column, as `labkit.model.evaluation.fairness.measure_groups` returns them.
    most
        Groups at most, the largest.
    """
    column = str(table["column"].iloc[0])
    title = f"Groups of {subject.name_column(column)}"
    known = table.assign(**{name: keep_drawable(table[name]) for name in ("value", "low", "high")})
    known = known.dropna(subset="value")
    if known.empty:
        return make_note(title, f"No group has enough {subject.rows} to be measured.")
    groups = known.drop_duplicates("group").sort_values("rows", ascending=False, kind="stable")["group"].head(most)
    rates = list(dict.fromkeys(known["rate"]))
    fact = describe_range(known, rates)
    fact += " Dashed: all groups with enough rows together. "
    fact += describe_intervals(known, confidence, "of each rate by itself, measured on the holdout")
    n_lines = -(-len(rates) // 2)
    with style():
        figure, panels = make_figure(
            title,
            fact,
            form="Interval charts",
            height=(0.8 + 0.27 * len(groups)) * n_lines,
            grid=(n_lines, 2),
            sharey=True,
        )
        for axes, rate in zip(panels, rates, strict=False):
            drawn = known[known["rate"] == rate].set_index("group").reindex(groups)
            axes.hlines(range(len(groups)), drawn["low"], drawn["high"], color=BLUE, linewidth=2.5)
            axes.plot(drawn["value"], range(len(groups)), "o", color=BLUE, markersize=7)
            every = known[known["rate"] == rate]
            overall = float(np.average(every["value"], weights=every["counted"]))
            axes.axvline(overall, color=MUTED, linestyle="--", linewidth=1.2)
            finish_bars(axes, [shorten_name(group, 18) for group in groups], rate)
            set_ticks(axes, 4)
        for axes in panels[len(rates) :]:
            axes.remove()
        figure.table = known[["group", "rows", "rate", "value", "low", "high"]]
        return figure


def describe_range(known: pd.DataFrame, rates: Sequence[str]) -> str:
    """Describe between which groups each rate differs most."""
    parts = []
    for rate in rates:
        lines = known[known["rate"] == rate].sort_values("value", kind="stable")
        if len(lines) > 1:
            low, high = lines.iloc[0], lines.iloc[-1]
            least, most = format_column([low["value"], high["value"]])
            parts.append(f"{rate} {least} ({low['group']}) to {most} ({high['group']})")
    return f"Lowest and highest: {'; '.join(parts)}." if parts else "Only one group has enough rows."


def tabulate_differences(
    differences: Sequence[Mapping[str, Any]], most_difference: float | None, *, subject: Subject = GENERIC
) -> pd.DataFrame:
    """Return the largest difference between two groups for each rate, with its interval and the verdict, worst first.

    Parameters
    ----------
    differences
        As `labkit.model.evaluation.gate_limits.DeclaredGroups.to_dict` returns them.
    most_difference
        Largest accepted difference; None if no columns are declared.
    """
    lines = []
    intervals = [Interval.from_dict({name: one[name] for name in ("value", "low", "high")}) for one in differences]
    for place, verdict in judge_differences(intervals, np.inf if most_difference is None else most_difference):
        one, interval = differences[place], intervals[place]
        lines.append(
            {
                "column": subject.name_column(one["column"]),
                "rate": one["rate"],
                "highest": one["highest"],
                "lowest": one["lowest"],
                "difference": format_interval(interval.value, interval.low, interval.high),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(lines)


def frame_groups(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the groups of `evaluation.json` as `labkit.model.evaluation.fairness.measure_groups` returns them."""
    frame = pd.DataFrame(records, columns=["column", "group", "rows", "rate", "counted", "value", "low", "high"])
    return frame.astype(dict.fromkeys(("value", "low", "high"), "float64"))


def summarize_differences(differences: pd.DataFrame) -> str:
    """Return the verdict on the differences between groups; empty if none are declared or comparable.

    Parameters
    ----------
    differences
        As `tabulate_differences` returns them.
    """
    if not len(differences):
        return ""
    if (differences["verdict"] == ACCEPTED).all():
        return f"Differences between declared groups: {len(differences)} measured, all accepted."
    worst = differences.iloc[0]
    differ = "differ" if worst["verdict"] == TOO_LARGE else "may differ"
    return (
        f"**Groups {differ}**: {worst['rate']} by {escape(worst['column'])}, "
        f"{escape(worst['highest'])} against {escape(worst['lowest'])}: {worst['difference']}, {worst['verdict']}."
    )
