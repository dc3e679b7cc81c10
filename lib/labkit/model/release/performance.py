"""The quantitative analyses of a model card: metrics, costs, periods and groups of rows, as Markdown tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.errors import list_briefly
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.by_period import describe_spread
from labkit.model.evaluation.gate import describe_paired
from labkit.model.evaluation.metrics import name_metric
from labkit.model.evaluation.savings import describe_savings, name_passive
from labkit.model.evaluation.threshold import describe_flagged
from labkit.names import escape
from labkit.params.evaluation import Costs
from labkit.params.subject import GENERIC, Subject
from labkit.units import (
    format_alike,
    format_column,
    format_confidence,
    format_difference_alike,
    format_interval,
)

NO_INTERVAL = "none: too few independent rows"


@dataclass(frozen=True)
class Baseline:
    """A model that the model is compared with: its heading in a table, its name in a sentence, and what it does."""

    heading: str
    name: str
    meaning: str = ""

    def describe(self) -> str:
        """Return its name with what it does."""
        return f"{self.name}, {self.meaning}" if self.meaning else self.name


BASELINES = {
    "plain_lightgbm": Baseline("plain LightGBM", "LightGBM with its defaults on the raw columns"),
    "dummy": Baseline("dummy", "the dummy", "which always predicts the constant that is best for the metric"),
}
"""By their keys in the record of the evaluation."""


def list_performance(metrics: Mapping[str, Any], *, n_classes: int = 0) -> list[str]:
    """Return every metric with its interval, next to the metrics of the models that it was compared with.

    Parameters
    ----------
    n_classes
        Number of classes of the target, 0 for regression: with two, metrics of predicted classes are at 0.5.
    """
    others = {one.heading: metrics[name] for name, one in BASELINES.items() if name in metrics}
    lines = [
        f"| metric | model | {format_confidence(metrics['confidence'])} interval | {' | '.join(others)} |",
        "|---|---:|---:|" + "---:|" * len(others),
    ]
    for name, value in metrics["holdout"].items():
        cells = format_cells(value, *(scores[name] for scores in others.values()))
        lines.append(f"| {name_metric(name, n_classes=n_classes)} | {' | '.join(cells)} |")
    gains, sure = metrics.get("paired", {}), metrics["confidence"]
    return [
        *lines,
        "",
        *(
            f"- On the same rows it is {describe_paired(metrics['metric'], BASELINES[name].name, gain, sure)}."
            for name, gain in ((name, Interval.from_dict(found)) for name, found in gains.items())
        ),
        "",
    ]


def list_not_shown(metrics: Mapping[str, Any], *, n_classes: int) -> list[str]:
    """Return, for each model that it was compared with, in which metrics it is worse or not shown to be better.

    It is worse where the whole interval of the paired gain lies below zero, and nothing is shown where the interval
    includes zero or where there is none.
    """
    sure, lines = format_confidence(metrics["confidence"]), []
    paired = {name: {metrics["metric"]: gain} for name, gain in metrics.get("paired", {}).items()}
    for name, by_metric in (metrics.get("gains") or paired).items():
        doubts: dict[str, list[str]] = {"worse": [], "not shown to be better": []}
        for metric, gain in by_metric.items():
            if not (gain["low"] or 0) > 0:
                word = "worse" if (gain["high"] or 0) < 0 else "not shown to be better"
                doubts[word].append(f"{name_metric(metric, n_classes=n_classes)} ({write_span(gain)})")
        lines += [
            f"It is {word} than {BASELINES[name].describe()}, in {list_briefly(found, most=10)}. In brackets: {sure} "
            "interval of the gain on the same rows."
            for word, found in doubts.items()
            if found
        ]
    return lines


def write_span(gain: Mapping[str, float | None]) -> str:
    """Return the limits of the interval of a difference in words, or a note that there is no interval."""
    value, low, high = gain["value"], gain["low"], gain["high"]
    if value is None or low is None or high is None:
        return NO_INTERVAL
    return "{1} to {2}".format(*format_difference_alike(value, low, high))


def format_cells(found: Mapping[str, float | None], *others: float) -> list[str]:
    """Return a metric, its interval in words and the metrics of other models, all with the same decimals.

    >>> format_cells({"value": 0.3, "low": 0.25, "high": 0.351}, 0.5)
    ['0.300', '0.250 to 0.351', '0.500']
    >>> format_cells({"value": 2, "low": None, "high": 3})
    ['2.00', 'none: too few independent rows']
    """
    value, low, high = (np.nan if one is None else float(one) for one in map(found.get, ("value", "low", "high")))
    shown, first, last, *beside = format_alike(value, low, high, *others, uncertainty=(high - low) / 2)
    return [shown, NO_INTERVAL if np.isnan(high - low) else f"{first} to {last}", *beside]


def write_columns(lines: Sequence[Mapping[str, Any]], *names: str) -> list[str]:
    """Return the numbers under some names in each line as cells; those of one name have the same decimals.

    >>> write_columns([{"loss": 0.21, "true": 2}, {"loss": 0.4567, "true": 3}], "loss", "true")
    ['0.210 | 2', '0.457 | 3']
    """
    columns = [format_column(line[name] for line in lines) for name in names]
    return [" | ".join(cells) for cells in zip(*columns, strict=True)]


def list_threshold(
    metrics: Mapping[str, Any], costs: Costs | None, subject: Subject = GENERIC, *, positive: object = None
) -> list[str]:
    """Return the probability from which to act, what that finds and the resulting costs, if costs are specified."""
    found = metrics.get("threshold")
    if not found or costs is None:
        return []
    saved = metrics.get("savings") or {}
    plain, unit = min(found["always_yes"], found["always_no"]), f" {costs.unit}" if costs.unit else ""
    cost, _, passive = format_cells(found["cost"], plain)
    return [
        "### When to act",
        "",
        f"At a probability of **{found['threshold']:.3g}** or more, if a false positive costs {costs.false_positive:g} "
        f"and a false negative {costs.false_negative:g}{unit}; chosen on rows not used for fitting.",
        "",
        f"On the holdout this {describe_flagged(found, subject, positive=positive, places=1)}. It costs "
        f"{cost}{unit} per {subject.row}; {name_passive(subject)}, costs {passive}. "
        + " ".join([describe_saving(found["saving"], unit, subject), *describe_savings(saved, costs, subject)]),
        "",
        "| metric at this threshold | model | interval |",
        "|---|---:|---:|",
        *(f"| {name} | {' | '.join(format_cells(one))} |" for name, one in found.get("metrics", {}).items()),
        "",
    ]


def describe_saving(saving: Mapping[str, float | None], unit: str, subject: Subject) -> str:
    """Return what acting from the threshold on saves against acting on every row or on none, as a sentence."""
    value, low, high = (
        np.nan if found is None else float(found) for found in map(saving.get, ("value", "low", "high"))
    )
    span = f"{format_difference_alike(value, low, high)[0]}{unit} per {subject.row}, interval {write_span(saving)}"
    if (saving["low"] or 0) > 0:
        return f"So it saves {span}."
    return f"It is not shown to save anything: {span}."


def list_periods(metrics: Mapping[str, Any], subject: Subject = GENERIC) -> list[str]:
    """Return the metric by period, if rows have a time."""
    periods = metrics.get("by_period") or {}
    if not periods:
        return []
    head = [
        "### Over time",
        "",
        f"| period ({subject.zone}) | {subject.rows} | {metrics['metric']} | interval | prediction | true |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    means = write_columns(list(periods.values()), "prediction", "true")
    rows = [
        f"| {period} | {found['rows']:,} | {' | '.join(format_cells(found))} | {mean} |"
        for (period, found), mean in sorted(zip(periods.items(), means, strict=True))
    ]
    spread = describe_spread(metrics.get("spread") or {}, metrics["metric"])
    return [*head, *rows, "", *([spread, ""] if spread else [])]


def list_groups(metrics: Mapping[str, Any]) -> list[str]:
    """Return how the model treats the groups of declared columns; none if no column is declared."""
    if not metrics.get("groups"):
        return []
    sure = format_confidence(metrics["confidence"])
    head = [
        "### Declared groups",
        "",
        f"Rates of the holdout with {sure} intervals; none where too few rows count.",
        "",
    ]
    rows = [
        f"| {escape(one['column'])} | {escape(one['group'])} | {one['rows']:,} | {one['rate']} | {describe_rate(one)} |"
        for one in metrics["groups"]
    ]
    return [*head, "| column | group | rows | rate | value |", "|---|---|---:|---|---:|", *rows, ""]


def describe_rate(one: Mapping[str, Any]) -> str:
    """Return the rate of a group with its interval."""
    if one["value"] is None:
        return f"too few rows ({one['counted']:,})"
    return format_interval(*(float("nan") if one[end] is None else one[end] for end in ("value", "low", "high")))


def list_slices(metrics: Mapping[str, Any], subject: Subject = GENERIC) -> list[str]:
    """Return the groups of rows on which the model has larger errors than elsewhere."""
    if "worst_slices" not in metrics:
        return []
    slices = metrics["worst_slices"]
    if not slices:
        return ["### Where it is weakest", "", f"No group of {subject.rows} stands out beyond random variation.", ""]
    names = ["loss", "elsewhere", "prediction", "true"]
    titles = list(names)
    if all("metric" in one for one in slices):
        names, titles = [*names, "metric", "metric_elsewhere"], [*titles, metrics["metric"], "elsewhere"]
    head = [
        "### Where it is weakest",
        "",
        f"| {subject.rows} where | {subject.rows} | {' | '.join(titles)} |",
    ]
    known = [{name: np.nan if one[name] is None else one[name] for name in names} for one in slices]
    numbers = write_columns(known, *names)
    rows = [
        f"| {escape(found['slice'])} | {found['rows']:,} | {cells} |"
        for found, cells in zip(slices, numbers, strict=True)
    ]
    note = f"Each of the {subject.rows} counts for the first group that contains it: elsewhere are the others that are "
    note += "in no group above."
    return [*head, "|---|---:|" + "---:|" * len(names), *rows, "", note, ""]
