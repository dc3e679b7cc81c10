"""The model card: purpose, training data, performance and limitations of a model.

It is computed from the run; only purpose and owner are text from the params. After Mitchell et al., Model Cards for
Model Reporting, 2019.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.ensemble import VotingClassifier, VotingRegressor

from labkit.model.estimators.calibrated import Calibrated
from labkit.model.estimators.target_transform import OnScale
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.gate import describe_paired, format_metric
from labkit.names import escape
from labkit.params.evaluation import Costs
from labkit.params.experiment import Params
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_confidence, format_share

SMALL_HOLDOUT = 200


def name_estimator(estimator: Any) -> str:
    """Return the name of an estimator: its class, and the calibration or target transform around it."""
    if isinstance(estimator, Calibrated):
        return f"{name_estimator(estimator.estimator)}, calibrated"
    if isinstance(estimator, OnScale):
        return f"{name_estimator(estimator.estimator)} on a {estimator.kind.replace('_', '-')} scale"
    if isinstance(estimator, VotingClassifier | VotingRegressor):
        *names, last = (name.replace("_", " ") for name, _ in estimator.estimators)
        return f"blend of {', '.join(names)} and {last}"
    return type(estimator).__name__


def make_card(
    params: Params,
    *,
    estimator: str,
    metrics: Mapping[str, Any],
    split: Mapping[str, Any],
    gate: Mapping[str, Any],
    holdout: pd.DataFrame,
    parity: Mapping[str, Any],
    sizes: Mapping[str, int],
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    estimator
        Name of the estimator; see `name_estimator`.
    metrics
        Content of `evaluation/evaluation.json`.
    split
        Content of `clean/split.json`.
    gate
        Content of `evaluation/gate.json`.
    holdout
        The clean holdout rows.
    parity
        As returned by `labkit.model.onnx.graph.Parity.to_dict`.
    sizes
        Compressed size in bytes of each part of the model, as returned by
        `labkit.model.release.skops_file.measure_parts`, and of the ONNX graph.
    """
    target, subject = params.data.target, Subject.from_params(params)
    purpose = params.deploy.intended_use or "Not stated: set `deploy.intended_use`."
    lines = [
        f"# {subject.question}",
        "",
        f"Model card of `{params.experiment}`.",
        "",
        f"**Predicts** `{target.column}` ({target.task}"
        + (f", class of interest {name_class(target.positive, subject)}" if target.positive is not None else "")
        + f") with {estimator}.",
        "",
        f"**Intended use.** {purpose}",
        "",
        f"**Owner.** {params.deploy.owner or 'Not stated: set `deploy.owner`.'}",
        "",
        "## Data",
        "",
        f"| part | {subject.rows} | use |",
        "|---|---:|---|",
        *(
            f"| {name} | {split['parts'][name]['rows']:,} | {use} |"
            for name, use in USES.items()
            if name in split["parts"]
        ),
        "",
        f"Split: {split['method']}"
        + (f", classes of `{split['stratified_by']}` in equal shares" if split.get("stratified_by") else "")
        + ".",
        "",
        "## Performance on the holdout",
        "",
        *list_performance(metrics),
        *list_threshold(metrics, params.evaluation.costs, subject),
        *list_periods(metrics, subject),
        *list_slices(metrics, subject),
        "## Gate",
        "",
        *(
            f"- {'passed' if check['passed'] else '**failed**'}: {check['name']}. {check['evidence']}."
            for check in gate["checks"]
        ),
        "",
        *list_sizes(sizes),
        "## Limits",
        "",
        *(f"- {limit}" for limit in list_limits(params, metrics, holdout, parity)),
        "",
    ]
    return "\n".join(lines)


def name_class(value: object, subject: Subject) -> str:
    """Return a class in Markdown, with its label if one is declared."""
    label = subject.find_label(value)
    return f"{label} ({escape(value)})" if label else escape(value)


def list_performance(metrics: Mapping[str, Any]) -> list[str]:
    """Return every metric with its interval, next to the metrics of the models that it was compared with."""
    others = {title: metrics[name] for name, title in BASELINES.items() if name in metrics}
    lines = [
        f"| metric | model | {format_confidence(metrics['confidence'])} interval | {' | '.join(others)} |",
        "|---|---:|---:|" + "---:|" * len(others),
    ]
    for name, value in metrics["holdout"].items():
        beside = " | ".join(format_metric(scores[name]) for scores in others.values())
        lines.append(f"| {name} | {format_metric(value['value'])} | {write_span(value)} | {beside} |")
    unit = [f"Intervals come from resampling {metrics['resampled']} of the holdout.", ""]
    gains, sure = metrics.get("paired", {}), metrics["confidence"]
    return [
        *lines,
        "",
        *unit,
        *(
            f"- On the same rows it is {describe_paired(metrics['metric'], BASELINES[name], gain, sure)}."
            for name, gain in ((name, Interval.from_dict(found)) for name, found in gains.items())
        ),
        "",
    ]


def write_span(interval: Mapping[str, float | None]) -> str:
    """Return the limits of an interval in words, or a note that there is no interval."""
    low, high = interval["low"], interval["high"]
    return (
        "none: too few independent rows"
        if low is None or high is None
        else f"{format_metric(low)} to {format_metric(high)}"
    )


def list_threshold(metrics: Mapping[str, Any], costs: Costs | None, subject: Subject = GENERIC) -> list[str]:
    """Return the probability from which to act and the resulting costs, if costs are specified."""
    found = metrics.get("threshold")
    if not found or costs is None:
        return []
    plain, unit = min(found["always_yes"], found["always_no"]), f" {costs.unit}" if costs.unit else ""
    return [
        "## When to act",
        "",
        f"At a probability of **{found['threshold']:.3g}** or more, if a false positive costs {costs.false_positive:g} "
        f"and a false negative {costs.false_negative:g}{unit}; chosen on rows not used for fitting.",
        "",
        f"On the holdout this acts on {format_share(found['acted'], 1)} of the {subject.rows}, with a recall of "
        f"{format_share(found['recall'], 1)} and a precision of {format_share(found['precision'], 1)}. It costs "
        f"{found['cost']['value']:.4g}{unit} per {subject.row}; the cheaper of always and never acting costs "
        f"{plain:.4g}.",
        "",
    ]


def list_periods(metrics: Mapping[str, Any], subject: Subject = GENERIC) -> list[str]:
    """Return the metric by period, if rows have a time."""
    periods = metrics.get("by_period") or {}
    if not periods:
        return []
    head = [
        "## Over time",
        "",
        f"| period ({subject.zone}) | {subject.rows} | {metrics['metric']} | interval | prediction | true |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = [
        f"| {period} | {found['rows']:,} | {format_metric(found['value'])} | {write_span(found)} "
        f"| {found['prediction']:.3g} | {found['true']:.3g} |"
        for period, found in sorted(periods.items())
    ]
    return [*head, *rows, ""]


def list_sizes(sizes: Mapping[str, int]) -> list[str]:
    """Return the compressed size of each part of the model, in bytes."""
    rows = [f"| {name.replace('_', ' ')} | {n_bytes:,} |" for name, n_bytes in sizes.items()]
    return ["## Size", "", "| part | bytes, compressed |", "|---|---:|", *rows, ""]


def describe_largest(sizes: Mapping[str, int]) -> str:
    """Return which part makes a release large; empty if no part is as large as a megabyte.

    >>> describe_largest({"random_forest": 38_400_000, "lightgbm": 300_000}), describe_largest({"estimator": 300})
    (', mostly random forest', '')
    """
    largest = max(sizes, key=lambda name: sizes[name])
    return f", mostly {largest.replace('_', ' ')}" if sizes[largest] >= 1_000_000 else ""


def list_slices(metrics: Mapping[str, Any], subject: Subject = GENERIC) -> list[str]:
    """Return the groups of rows on which the model has larger errors than elsewhere."""
    if "worst_slices" not in metrics:
        return []
    slices = metrics["worst_slices"]
    if not slices:
        return ["## Where it is weakest", "", f"No group of {subject.rows} stands out beyond random variation.", ""]
    head = [
        "## Where it is weakest",
        "",
        f"| {subject.rows} where | {subject.rows} | loss | elsewhere | prediction | true |",
    ]
    rows = [
        f"| {escape(found['slice'])} | {found['rows']:,} | {found['loss']:.3g} | {found['elsewhere']:.3g} "
        f"| {found['prediction']:.3g} | {found['true']:.3g} |"
        for found in slices
    ]
    return [*head, "|---|---:|---:|---:|---:|---:|", *rows, ""]


BASELINES = {"plain_lightgbm": "plain LightGBM", "dummy": "dummy"}
USES = {
    "training": "fitting, and comparing candidates by cross-validation",
    "validation": "second evaluation of the chosen candidate; then fitted with the training rows",
    "holdout": "the metrics below; never seen in training",
    "aside": "later rows, for trying out the release",
}


def list_limits(
    params: Params, metrics: Mapping[str, Any], holdout: pd.DataFrame, parity: Mapping[str, Any]
) -> list[str]:
    """Return the limitations of the model that follow from the data."""
    target, subject = params.data.target, Subject.from_params(params)
    limits = []
    if len(holdout) < SMALL_HOLDOUT:
        limits.append(
            f"The holdout has only {subject.count_rows(len(holdout))}: the intervals above are wide for that reason."
        )
    if target.task == "classification":
        counts = holdout[target.column].value_counts()
        rarest, found = name_class(counts.index[-1], subject), subject.count_rows(counts.iloc[-1])
        limits.append(f"Of the rarest class, {rarest}, the holdout has {found}.")
    else:
        low, high = map(format_metric, holdout[target.column].quantile([0.01, 0.99]))
        span = subject.add_unit(f"{low} to {high}", target.column)
        limits.append(f"Values outside of {span} were rare; predictions there are extrapolations.")
    missing_share = holdout.drop(columns=target.column).isna().mean()
    if missing_share.max() > 0:
        limits.append(
            f"`{missing_share.idxmax()}` is missing in {format_share(missing_share.max())} of the {subject.rows}; the "
            "model imputes them."
        )
    gain = metrics.get("paired", {}).get("plain_lightgbm")
    if gain and not (gain["low"] or 0) > 0:
        limits.append("It is not shown to be better than LightGBM with its defaults on the raw columns.")
    drifting = [found["prediction"] - found["true"] for found in metrics.get("by_period", {}).values()]
    if len(drifting) > 1 and params.data.target.task == "classification":
        worst = max(drifting, key=abs)
        side = "high" if worst > 0 else "low"
        limits.append(
            f"In its worst period the mean probability was {100 * abs(worst):.1f} percentage points too {side}."
        )
    if seconds := params.training.budget_seconds:
        limits.append(
            f"Candidates were compared and tuned for at most {seconds:g} s: another run may choose another model, so "
            "this one is not reproducible."
        )
    if parity["reason"]:
        limits.append(f"No ONNX graph: {parity['reason']}. The scikit-learn pipeline is served.")
    return limits
