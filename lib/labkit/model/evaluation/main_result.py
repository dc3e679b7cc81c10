"""The main metric of an evaluation in words: its value, the rows it was measured on, and the baselines."""

from collections.abc import Mapping
from typing import Any

from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.metrics import IN_TARGET_UNIT
from labkit.model.evaluation.true_values import describe_true_values
from labkit.names import escape
from labkit.params.experiment import Params
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.subject import Subject
from labkit.units import format_alike, format_interval, format_share


def find_unit_of(metric: str, params: Params) -> str:
    """Return the unit of a metric; empty if it has none or none is declared, for it or for the target."""
    if metric in OWN_METRICS.paths:
        return OWN_METRICS.find(metric).declared.unit
    meaning = params.data.columns.get(params.data.target.column)
    return meaning.unit if metric in IN_TARGET_UNIT and meaning else ""


def describe_main_metric(params: Params, evaluation: Mapping[str, Any]) -> str:
    """Return the main metric on the holdout with its interval and unit.

    Parameters
    ----------
    evaluation
        Content of `evaluation.json`.
    """
    name = evaluation["metric"]
    one, unit = Interval.from_dict(evaluation["holdout"][name]), find_unit_of(name, params)
    return f"holdout {name} {format_interval(one.value, one.low, one.high)}{f' {unit}' * bool(unit)}"


def describe_measured_rows(params: Params, evaluation: Mapping[str, Any]) -> str:
    """Return on which rows the metric was measured and, of two classes, how frequent the class of interest is there."""
    subject, found = Subject.from_params(params), evaluation.get("true_values") or {}
    frequent = describe_true_values(found, subject) if "share" in found else ""
    counted = subject.count_rows(evaluation["rows"], kind="holdout")
    return ", ".join(filter(None, [counted, frequent, f"with {format_share(evaluation['confidence'])} interval"]))


def describe_target_scale(params: Params, evaluation: Mapping[str, Any]) -> str:
    """Return how large the true values of a number are, by which an error in its unit is judged, as a sentence."""
    subject, target = Subject.from_params(params), params.data.target.column
    found = evaluation.get("true_values") or {}
    if "mean" not in found:
        return ""
    named = subject.columns[target].description if target in subject.columns else ""
    of_target = f"{named} ({escape(target)})" if named else escape(target)
    return f"The target is {of_target}, {describe_true_values(found, subject, target=target)}."


def describe_baselines(params: Params, evaluation: Mapping[str, Any]) -> str:
    """Return the metric of the baselines with its unit, in the model's decimals, as a phrase."""
    name = evaluation["metric"]
    unit, one = find_unit_of(name, params), Interval.from_dict(evaluation["holdout"][name])
    after = f" {unit}" * bool(unit)
    plain = (evaluation.get("plain_lightgbm") or {}).get(name)
    value = plain.get("value") if isinstance(plain, dict) else plain
    others = [evaluation["dummy"][name], *([] if value is None else [value])]
    _, dummy, *rest = format_alike(one.value, *others, uncertainty=(one.high - one.low) / 2)
    beside = f", plain LightGBM {rest[0]}{after}" if rest else ""
    return f"dummy (best constant prediction) {dummy}{after}{beside}"


def describe_quality(params: Params, evaluation: Mapping[str, Any]) -> str:
    """Return the main metric, the rows it was measured on, the baselines and the scale of the target, in Markdown."""
    measured, baselines = describe_measured_rows(params, evaluation), describe_baselines(params, evaluation)
    scale = describe_target_scale(params, evaluation)
    return f"**{describe_main_metric(params, evaluation)}** on {measured}; {baselines}. {scale}".strip()
