"""The main metric of an evaluation in words: its value, the rows it was measured on, and the baselines."""

from collections.abc import Mapping
from typing import Any

from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.metrics import IN_TARGET_UNIT
from labkit.model.evaluation.true_values import describe_true_values
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
    """Return on which rows the metric was measured, how large or frequent their true values are, and its unit."""
    name, target, subject = evaluation["metric"], params.data.target.column, Subject.from_params(params)
    counted = subject.count_rows(evaluation["rows"], kind="holdout")
    found = describe_true_values(evaluation.get("true_values") or {}, subject, target=target)
    is_without_unit = name in IN_TARGET_UNIT and not find_unit_of(name, params)
    unit = f", in the unit of {subject.name_column(target)}" * is_without_unit
    interval = f"with {format_share(evaluation['confidence'])} interval"
    if params.data.target.task == "classification":
        return ", ".join(filter(None, [counted, found, interval]))
    return "; ".join(filter(None, [f"{counted}, {interval}{unit}", found]))


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
    """Return the main metric, the rows it was measured on and the baselines, as one sentence in Markdown."""
    measured, baselines = describe_measured_rows(params, evaluation), describe_baselines(params, evaluation)
    return f"**{describe_main_metric(params, evaluation)}** on {measured}; {baselines}."
