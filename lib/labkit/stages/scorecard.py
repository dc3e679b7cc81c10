"""What people who decide are shown of an experiment: the question, the result, the costs, the checks, the versions.

`labkit.stages.publish` writes it beside the decision, and the index of the reports shows it.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import CHECKED, PLACES
from labkit.checks import SIGNS, CheckResult, describe_counts, mute, sort_by_weight
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.by_period import describe_spread
from labkit.model.evaluation.gate import Check, describe_limits
from labkit.model.evaluation.main_result import (
    describe_baselines,
    describe_main_metric,
    describe_measured_rows,
    describe_target_scale,
    find_unit_of,
)
from labkit.model.evaluation.method_checks import from_gate
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.evaluation.savings import describe_declared_costs, describe_savings
from labkit.model.evaluation.threshold import describe_flagged
from labkit.model.release.runtime import FACTS
from labkit.params.experiment import Params
from labkit.params.metric_meanings import describe_metric
from labkit.params.subject import Subject
from labkit.stages.model_versions import list_versions
from labkit.stages.result import find_evaluation
from labkit.storage.atomic import parse_json
from labkit.units import format_alike, format_interval, format_number

MOST_VERSIONS = 12


def list_champion_versions(params: Params) -> list[dict[str, Any]]:
    """Return the versions that are or were champion, oldest first: number, and main metric on the holdout of its run.

    Versions of which the registry does not hold this metric are left out.
    """
    return [
        {"version": one.version, "value": one.value, "low": one.low, "high": one.high}
        for one in reversed(list_versions(params.experiment))
        if (one.moves or one.is_champion) and one.metric == params.training.metric
    ][-MOST_VERSIONS:]


def make_scorecard(
    params: Params, checks: Sequence[Check], version: int | None, versions: Sequence[Mapping[str, Any]]
) -> Any:
    """Return what the index shows of an experiment, as plain data.

    Parameters
    ----------
    checks
        Checks of the decision about publishing.
    version
        Version that the release has in the registry; None if it was refused.
    versions
        Earlier versions, as `list_champion_versions` returns them.
    """
    data, subject = paths.find_data_dir(params.experiment), Subject.from_params(params)
    try:
        evaluation = find_evaluation(data)
        name = evaluation["metric"]
        measured = {"holdout": evaluation["holdout"][name], "dummy": evaluation["dummy"][name]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"question": subject.question}
    results = collect_checks(data, evaluation, checks)
    ordered = sort_by_weight(mute(results, params.checks.mute))
    one = Interval.from_dict(measured["holdout"])
    past = [entry for entry in versions if entry["version"] != version]
    latest = [] if version is None else [{"version": version, **one.to_dict()}]
    return {
        "question": subject.question,
        "metric": name,
        "meaning": describe_metric(name),
        "unit": find_unit_of(name, params),
        "is_greater_better": is_greater_better(name),
        "result": describe_main_metric(params, evaluation),
        "measured_on": describe_measured_rows(params, evaluation),
        "scale": describe_target_scale(params, evaluation),
        **describe_refit_of_release(data),
        "baselines": describe_baselines(params, evaluation),
        "costs": describe_costs(params, evaluation, subject),
        "savings": list_savings(params, evaluation, subject),
        "limits": describe_limits(params.evaluation.gate),
        "spread": describe_spread(evaluation.get("spread") or {}, name),
        "checks": [result.to_dict() for result in ordered],
        "counts": describe_counts(ordered),
        "versions": sorted([*past, *latest], key=itemgetter("version"))[-MOST_VERSIONS:],
    }


def describe_refit_of_release(data: Path) -> dict[str, str]:
    """Return what the metrics were measured on, if the model of the release was refitted on all rows; else nothing."""
    path = data / PLACES["release"] / FACTS
    refit = parse_json(path.read_bytes()).get("refit") if path.is_file() else None
    return {"refit": refit["description"]} if refit else {}


def collect_checks(data: Path, evaluation: Mapping[str, Any], checks: Sequence[Check]) -> list[CheckResult]:
    """Return the results of all stages by code; those of the decision replace earlier ones of the same code.

    Differences between groups are counted once: those of the decision (LK608) replace those of the evaluation (LK511).
    """
    stored = [
        result
        for name in CHECKED
        for result in (read_checks(evaluation) if name == "evaluation" else load_checks(data / PLACES[name]))
    ]
    results = {result.code: result for result in [*stored, *map(from_gate, checks)]}
    if "LK608" in results:
        results.pop("LK511", None)
    return list(results.values())


def load_checks(path: Path) -> list[CheckResult]:
    """Return the results of checks in an artifact; none if it holds none, as those of earlier versions."""
    return read_checks(parse_json(path.read_bytes())) if path.is_file() else []


def read_checks(content: Mapping[str, Any]) -> list[CheckResult]:
    """Return the results of checks in the content of an artifact."""
    return [CheckResult.from_dict(check) for check in content.get("checks", [])]


def describe_costs(params: Params, evaluation: Mapping[str, Any], subject: Subject) -> str:
    """Return what acting on the predictions costs and saves, or that this is not known, as sentences."""
    found, costs = evaluation.get("threshold") or {}, params.evaluation.costs
    if params.data.target.positive is None:
        return "What acting on it saves is not known: costs can be declared only for two classes."
    if costs is None:
        return "What acting on it saves is not known: no costs are declared (`evaluation.costs`)."
    if not found:
        return ""
    unit = f" {costs.unit}" if costs.unit else ""
    cheapest, other = sorted([("none", found["always_no"]), ("all", found["always_yes"])], key=lambda pair: pair[1])
    one, saving = Interval.from_dict(found["cost"]), found["saving"]
    cost, low, high, *passive = format_alike(
        one.value, one.low, one.high, cheapest[1], other[1], uncertainty=(one.high - one.low) / 2
    )
    words = "saves" if (saving["low"] or 0) > 0 else "is not shown to save anything:"
    flagged = describe_flagged(found, subject, positive=params.data.target.positive)
    return (
        f"Acting from a probability of {format_number(found['threshold'])} on {flagged}. It costs {cost}{unit} per "
        f"{subject.row} [{low}, {high}]; acting on {cheapest[0]} costs {passive[0]}, on {other[0]} {passive[1]}. On "
        f"the holdout this {words} {format_interval(**saving)}{unit} per {subject.row} against the cheaper of the two."
    )


def list_savings(params: Params, evaluation: Mapping[str, Any], subject: Subject) -> list[str]:
    """Return sentences about declared costs, plain LightGBM and the days of the saving; none without a threshold."""
    costs = params.evaluation.costs
    if costs is None or not evaluation.get("threshold"):
        return []
    return [describe_declared_costs(costs), *describe_savings(evaluation.get("savings") or {}, costs, subject)]


def list_results(scorecard: Mapping[str, Any]) -> list[str]:
    """Return how good the model is, compared with what, and what acting on it saves, as paragraphs."""
    if "result" not in scorecard:
        return []
    result = capitalize_first(scorecard["result"])
    measured = f"On {scorecard['measured_on']}; {scorecard['baselines']}."
    costs = " ".join([scorecard["costs"], *scorecard["savings"]])
    doubts = [
        f"- {SIGNS[one['status']]} {one['code']} {one['title']}: {one['evidence']}."
        for one in scorecard["checks"]
        if one["status"] in ("issue", "warning", "muted")
    ]
    counted = f"Checks of all stages and of this decision: {scorecard['counts']}."
    paragraphs = [f"**{result}**. {measured} {scorecard['scale']}", costs, scorecard.get("refit", ""), counted]
    return [line for text in paragraphs if text for line in (text, "")] + [*doubts, ""]


def capitalize_first(words: str) -> str:
    """Return words with a capital letter first; names and units within them stay as they are.

    >>> capitalize_first("look for a leak in Fare")
    'Look for a leak in Fare'
    """
    return words[:1].upper() + words[1:]
