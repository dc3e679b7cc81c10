"""The model card: what a model is for, what it was made from, how good it is, and where it is weak.

Its sections are those of Mitchell et al., Model Cards for Model Reporting, 2019. It is computed from the run; only what
`deploy` declares is text from the params. Neither a version nor a time is in it: the same run makes the same release.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.pipeline import Pipeline

from labkit.checks import SIGNS, CheckResult, describe_counts, mute, sort_by_weight
from labkit.model.estimators.calibrated import Calibrated
from labkit.model.estimators.class_codes import ClassCodes
from labkit.model.estimators.target_transform import OnScale
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.evaluation.release_checks import list_release_checks
from labkit.model.evaluation.true_values import describe_true_values
from labkit.model.release.performance import (
    BASELINES,
    list_groups,
    list_not_shown,
    list_performance,
    list_periods,
    list_slices,
    list_threshold,
)
from labkit.names import escape
from labkit.params.experiment import Params
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.subject import Subject
from labkit.units import format_column, format_confidence, format_count, format_share, format_significant, format_size

SMALL_HOLDOUT = 200
"""Rows of the holdout, or of one of its classes, below which the card warns."""
MOST_OPEN = 12
"""Lines of a table that are shown without unfolding it."""
MOST_INPUTS = 100
TRAINING_USES = {
    "training": "fitting, and comparing candidates by cross-validation",
    "validation": "second evaluation of the chosen candidate; then fitted with the training rows",
}
EVALUATION_USES = {
    "holdout": "the metrics of this card; never seen in training",
    "aside": "later rows, for trying out the release",
}
REFITTED_USES = EVALUATION_USES | {
    "holdout": "the metrics of this card, of a model that had not seen them; then fitting the published model",
}


def make_card(
    params: Params,
    *,
    model: Pipeline,
    artifacts: Mapping[str, Mapping[str, Any]],
    holdout: pd.DataFrame,
    parity: Mapping[str, Any],
    sizes: Mapping[str, int],
    refit: Mapping[str, Any] | None = None,
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    model
        The fitted pipeline: row features first, estimator last.
    artifacts
        Content of `split`, `choice`, `evaluation` and `gate`, by name.
    holdout
        The clean holdout rows.
    parity
        As returned by `labkit.model.onnx.parity.Parity.to_dict`.
    sizes
        Compressed size in bytes of each part of the model, as returned by
        `labkit.model.release.skops_file.measure_parts`, and of the ONNX graph.
    refit
        As returned by `labkit.model.evaluation.refit_stability.describe_refit`; empty if the model was not refitted.
    """
    refit = refit or {}
    subject, deploy = Subject.from_params(params), params.deploy
    metrics, split = artifacts["evaluation"], artifacts["split"]
    n_classes = len(getattr(model[-1], "classes_", ()))
    sections = {
        "Model details": [
            *describe_model(params, name_estimator(model[-1]), parity),
            *([f"**Refitted.** {refit['description']}", ""] if refit else []),
            *tabulate_inputs(model[0].inputs_, subject),
            *list_sizes(sizes),
        ],
        "Intended use": [
            f"**Intended use.** {deploy.intended_use or write_missing('intended_use')}",
            "",
            f"**Out of scope.** {deploy.out_of_scope or write_missing('out_of_scope')}",
            "",
        ],
        "Factors": list_breakdowns(metrics, subject),
        "Metrics": [
            *describe_metrics(metrics, holdout, subject, target=params.data.target.column),
            *list_threshold(metrics, params.evaluation.costs, subject, positive=params.data.target.positive),
        ],
        "Evaluation data": tabulate_parts(split, REFITTED_USES if refit else EVALUATION_USES, subject),
        "Training data": [
            *tabulate_parts(split, list_training_uses(params, split), subject),
            *describe_method(split, subject),
        ],
        "Quantitative analyses": [
            *list_performance(metrics, n_classes=n_classes),
            *list_periods(metrics, subject),
            *list_slices(metrics, subject),
            *list_groups(metrics),
            *list_gate_checks(artifacts["gate"]),
        ],
        "Ethical considerations": [deploy.ethical_considerations or write_missing("ethical_considerations"), ""],
        "Caveats and recommendations": [
            *(f"- {limit}" for limit in list_limits(params, metrics, holdout, parity, n_classes)),
            "",
            *list_open_checks(params, [*list_stage_checks(artifacts), *list_release_checks(parity, refit, deploy)]),
        ],
    }
    lines = [f"# {subject.question}", "", f"Model card of `{params.experiment}`.", ""]
    return "\n".join([*lines, *(line for title, body in sections.items() for line in (f"## {title}", "", *body))])


def write_missing(name: str) -> str:
    """Return the note in place of what `deploy` does not declare."""
    return f"Not stated: set `deploy.{name}`."


def name_estimator(estimator: Any) -> str:
    """Return the name of an estimator: its class, and the calibration or target transform around it."""
    if isinstance(estimator, Calibrated):
        return f"{name_estimator(estimator.estimator)}, calibrated"
    if isinstance(estimator, ClassCodes):
        return name_estimator(estimator.estimator)
    if isinstance(estimator, OnScale):
        return f"{name_estimator(estimator.estimator)} on a {estimator.kind.replace('_', '-')} scale"
    if isinstance(estimator, VotingClassifier | VotingRegressor):
        *names, last = (name.replace("_", " ") for name, _ in estimator.estimators)
        return f"blend of {', '.join(names)} and {last}"
    return type(estimator).__name__


def name_class(value: object, subject: Subject) -> str:
    """Return a class in Markdown, with its label if one is declared."""
    label = subject.find_label(value)
    return f"{label} ({escape(value)})" if label else escape(value)


def describe_model(params: Params, estimator: str, parity: Mapping[str, Any]) -> list[str]:
    """Return what is predicted and with what, in which form it is served, and who is responsible."""
    target, subject = params.data.target, Subject.from_params(params)
    positive = "" if target.positive is None else f", class of interest {name_class(target.positive, subject)}"
    meaning = subject.describe_column(target.column)
    served = "the scikit-learn pipeline" if parity["reason"] else "an ONNX graph that predicts like the pipeline"
    return [
        f"**Predicts** {escape(target.column)} ({target.task}{positive}) with {estimator}."
        + (f" The target is {meaning}." if meaning else ""),
        "",
        f"**Served as** {served}. The registry has its versions and their dates.",
        "",
        f"**Owner.** {params.deploy.owner or write_missing('owner')}",
        "",
    ]


def tabulate_inputs(inputs: Mapping[str, str], subject: Subject) -> list[str]:
    """Return the raw columns that the model needs, folded if they are many."""
    rows = [
        f"| {escape(name)} | {kind} | {subject.describe_column(name).replace('|', '¦')} |"
        for name, kind in list(inputs.items())[:MOST_INPUTS]
    ]
    table = ["| column | kind | description (unit) |", "|---|---|---|", *rows, ""]
    if len(inputs) > MOST_INPUTS:
        table += [f"… and {len(inputs) - MOST_INPUTS:,} more: see `contract.json`.", ""]
    return ["### Inputs", "", *fold_table(table, f"{format_count(len(inputs), 'raw column')}", n_lines=len(rows))]


def fold_table(lines: Sequence[str], summary: str, *, n_lines: int) -> list[str]:
    """Return lines of Markdown after their summary, folded if there are more than `MOST_OPEN`."""
    if n_lines <= MOST_OPEN:
        return [f"{summary}:", "", *lines]
    return [f"<details><summary>{summary}</summary>", "", *lines, "</details>", ""]


def list_sizes(sizes: Mapping[str, int]) -> list[str]:
    """Return the compressed size of each part of the model, in bytes."""
    rows = [f"| {name.replace('_', ' ')} | {n_bytes:,} |" for name, n_bytes in sizes.items()]
    return ["### Size", "", "| part | bytes, compressed |", "|---|---:|", *rows, ""]


def describe_largest(sizes: Mapping[str, int]) -> str:
    """Return which part makes a release large; empty if no part is as large as a megabyte.

    >>> describe_largest({"random_forest": 38_400_000, "lightgbm": 300_000}), describe_largest({"estimator": 300})
    (', largest part of the model random forest, 38.4 MB', '')
    """
    largest = max(sizes, key=lambda name: sizes[name])
    named = f", largest part of the model {largest.replace('_', ' ')}, {format_size(sizes[largest])}"
    return named if sizes[largest] >= 1_000_000 else ""


def list_breakdowns(metrics: Mapping[str, Any], subject: Subject) -> list[str]:
    """Return by what the performance was broken down: groups of rows, and time if rows have one."""
    lines = []
    if (slices := metrics.get("worst_slices")) is not None:
        found = ", ".join(escape(one["slice"]) for one in slices) or "none beyond random variation"
        lines.append(
            f"- Groups of {subject.rows}, by one input or two. With a higher mean loss than the others: {found}."
        )
    if periods := sorted(metrics.get("by_period") or {}):
        lines.append(f"- Time: {format_count(len(periods), 'period')}, {periods[0]} to {periods[-1]} ({subject.zone}).")
    return [*(lines or ["The performance was not broken down."]), ""]


def describe_metrics(metrics: Mapping[str, Any], holdout: pd.DataFrame, subject: Subject, *, target: str) -> list[str]:
    """Return which metrics were computed, on what, how uncertain they are and what they are compared with."""
    name = metrics["metric"]
    better = "greater" if is_greater_better(name) else "smaller"
    others = " and ".join(one.describe() for key, one in BASELINES.items() if key in metrics)
    own = [one for one in metrics["holdout"] if one in OWN_METRICS.paths]
    rows = subject.count_rows(len(holdout), kind="holdout")
    if found := describe_true_values(metrics.get("true_values") or {}, subject, target=target):
        rows += f" ({found})"
    return [
        f"- Candidates were compared by **{name}**: {better} is better. Reported too: "
        f"{', '.join(one for one in metrics['holdout'] if one != name) or 'no other metric'}.",
        *(f"- {one}: {OWN_METRICS.find(one).describe()}." for one in own),
        f"- Measured on {rows}, and compared there with {others}.",
        f"- The {format_confidence(metrics['confidence'])} intervals come from resampling the holdout: "
        f"{metrics['resampled']}.",
        "",
    ]


def list_training_uses(params: Params, split: Mapping[str, Any]) -> dict[str, str]:
    """Return what the parts for training were used for, and on how many rows candidates were compared if not on all."""
    most, n_rows = params.training.most_rows, split["parts"].get("training", {}).get("rows", 0)
    if most is None or n_rows <= most:
        return TRAINING_USES
    compared = f"the latest {most:,}" if params.data.time else f"{most:,} of them, drawn at random"
    use = f"fitting; on {compared}, comparing candidates by cross-validation"
    return TRAINING_USES | {"training": use}


def tabulate_parts(split: Mapping[str, Any], uses: Mapping[str, str], subject: Subject) -> list[str]:
    """Return the parts of the split with their size, their first and last day if rows have a time, and their use."""
    parts = {name: split["parts"][name] for name in uses if name in split["parts"]}
    has_time = all("first" in part for part in parts.values())
    days = f" first day ({subject.zone}) | last day |" if has_time else ""
    rows = [
        f"| {name} | {part['rows']:,} |"
        + (f" {find_day(part['first'], subject)} | {find_day(part['last'], subject)} |" if has_time else "")
        + f" {uses[name]} |"
        for name, part in parts.items()
    ]
    marks = "---|---|" if has_time else ""
    return [f"| part | {subject.rows} |{days} use |", f"|---|---:|{marks}---|", *rows, ""]


def find_day(time: str, subject: Subject) -> str:
    """Return the day of an ISO time in the zone of the experiment.

    >>> find_day("2013-11-01T01:59:00+00:00", Subject("", zone="America/New_York"))
    '2013-10-31'
    """
    return pd.Timestamp(time).tz_convert(subject.zone).date().isoformat()


def describe_method(split: Mapping[str, Any], subject: Subject) -> list[str]:
    """Return how the rows were split, and how many are in no part because their outcome was known too late."""
    by = f" by {escape(split['group'])}" if split.get("group") else ""
    strata = f", classes of {escape(split['stratified_by'])} in equal shares" if split.get("stratified_by") else ""
    lines = [f"Split: {split['method']}{by}{strata}.", ""]
    if n_late := sum(split.get("embargoed", {}).values()):
        late = f"{subject.count_rows(n_late)} left out: the outcome was known only after the next part had begun."
        lines += [late, ""]
    return lines


def list_gate_checks(gate: Mapping[str, Any]) -> list[str]:
    """Return the checks that decide whether the model may be published.

    Without the gate's limits: the same model is the same release, whatever is required of it.
    """
    failed = f"{SIGNS['issue']} **failed:**"
    checks = [
        f"- {SIGNS['passed'] if check['passed'] else failed} {check['name']}: {check['evidence']}."
        for check in gate["checks"]
    ]
    return ["### Gate", "", *checks, ""]


def list_stage_checks(artifacts: Mapping[str, Mapping[str, Any]]) -> list[CheckResult]:
    """Return the results of the checks of the stages before the release."""
    stored = [check for name in ("split", "choice", "evaluation") for check in artifacts[name].get("checks", [])]
    return [*map(CheckResult.from_dict, stored)]


def list_open_checks(params: Params, checks: Sequence[CheckResult]) -> list[str]:
    """Return the checks that need attention or are muted, and how many have which status."""
    results = sort_by_weight(mute(checks, params.checks.mute))
    lines = [describe_check(one) for one in results if one.needs_attention or one.status == "muted"]
    counts = (
        f"Checks of split, training, evaluation and release: {describe_counts(results)}. Features, explanation and the "
        "decision to publish have checks of their own, which the index of the reports counts too."
    )
    return ["### Checks", "", *lines, *([""] if lines else []), counts, ""]


def describe_check(result: CheckResult) -> str:
    """Return a check as an item of a list, with consequence and remedy unless it is muted."""
    evidence = " ".join(result.evidence.split())
    if not result.needs_attention:
        return f"- {SIGNS[result.status]} {result.title} ({result.code}): {evidence}."
    named = f"{SIGNS[result.status]} {result.title} ({result.code}, {result.status})"
    return f"- {named}: {evidence}. {result.consequence} {result.remedy}"


def list_limits(
    params: Params, metrics: Mapping[str, Any], holdout: pd.DataFrame, parity: Mapping[str, Any], n_classes: int
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
        if counts.iloc[-1] < SMALL_HOLDOUT:
            rarest, found = name_class(counts.index[-1], subject), subject.count_rows(counts.iloc[-1])
            limits.append(f"Of the rarest class, {rarest}, the holdout has {found}.")
    else:
        low, high = map(format_significant, holdout[target.column].quantile([0.01, 0.99]))
        span = subject.add_unit(f"{low} to {high}", target.column)
        limits.append(
            f"The true values of the holdout are {span}, from their 1 % to their 99 % quantile: errors beyond are "
            "measured on few rows."
        )
    missing_share = holdout.drop(columns=target.column).isna().mean()
    if missing_share.max() > 0:
        limits.append(
            f"{escape(missing_share.idxmax())} is missing in {format_share(missing_share.max())} of the holdout "
            f"{subject.rows}; the model imputes it."
        )
    limits += list_not_shown(metrics, n_classes=n_classes)
    periods = metrics.get("by_period") or {}
    if len(periods) > 1 and params.data.target.task == "classification":
        drifting = {period: found["prediction"] - found["true"] for period, found in periods.items()}
        worst = max(drifting, key=lambda period: abs(drifting[period]))
        side, found = "high" if drifting[worst] > 0 else "low", periods[worst]
        mean, true = format_column([found["prediction"], found["true"]])
        limits.append(
            f"In the period with the largest bias, {worst}, the mean probability was too {side}: {mean} against {true}."
        )
    if seconds := params.training.budget_seconds:
        limits.append(
            f"Candidates were compared and tuned for at most {seconds:g} s: another run may choose another model, so "
            "this one is not reproducible."
        )
    if parity["reason"]:
        limits.append(f"No ONNX graph: {parity['reason']}. The scikit-learn pipeline is served.")
    return limits
