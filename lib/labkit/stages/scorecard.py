"""What people who decide are shown of an experiment: the question, the result, the costs, the checks, the versions.

`labkit.stages.publish` writes it beside the decision, and the index of the reports shows it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import PLACES
from labkit.checks import CheckResult, describe_counts, mute, sort_by_weight
from labkit.model.evaluation.gate import Check
from labkit.model.evaluation.method_checks import from_gate
from labkit.params.experiment import Params
from labkit.params.subject import Subject
from labkit.stages.result import find_evaluation
from labkit.storage.atomic import parse_json
from labkit.units import format_interval, format_share, format_significant

MOST_VERSIONS = 12


def make_scorecard(params: Params, checks: Sequence[Check], version: int | None, before: Mapping[str, Any]) -> Any:
    """Return what the index shows of an experiment, as plain data.

    Parameters
    ----------
    checks
        Checks of the decision about publishing.
    version
        Version that the release has in the registry; None if it was refused.
    before
        Content of the scorecard that this one replaces; its versions are kept.
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
    one = measured["holdout"]
    quality = format_interval(*(float("nan") if one[end] is None else one[end] for end in ("value", "low", "high")))
    past = [
        entry for entry in before.get("versions", []) if isinstance(entry, dict) and entry.get("version") != version
    ]
    latest = [] if version is None else [{"version": version, "quality": quality}]
    return {
        "question": subject.question,
        "result": f"holdout {name} {quality}",
        "measured_on": f"{subject.count_rows(evaluation['rows'], kind='holdout')}, with "
        f"{format_share(evaluation['confidence'])} interval",
        "baselines": describe_baselines(evaluation, name),
        "costs": describe_costs(params, evaluation, subject),
        "checks": [result.to_dict() for result in ordered],
        "counts": describe_counts(ordered),
        "versions": [*past, *latest][-MOST_VERSIONS:],
    }


def collect_checks(data: Path, evaluation: Mapping[str, Any], checks: Sequence[Check]) -> list[CheckResult]:
    """Return the results of all stages by code; those of the decision replace earlier ones of the same code."""
    stored = [
        *load_checks(data / PLACES["split"]),
        *load_checks(data / PLACES["choice"]),
        *map(CheckResult.from_dict, evaluation.get("checks", [])),
        *map(from_gate, checks),
    ]
    return list({result.code: result for result in stored}.values())


def load_checks(path: Path) -> list[CheckResult]:
    """Return the results of checks in an artifact; none if it holds none, as those of earlier versions."""
    content = parse_json(path.read_bytes()) if path.is_file() else {}
    return [CheckResult.from_dict(check) for check in content.get("checks", [])]


def describe_baselines(evaluation: Mapping[str, Any], name: str) -> str:
    """Return the metric of the baselines, as a phrase."""
    plain = (evaluation.get("plain_lightgbm") or {}).get(name)
    value = plain.get("value") if isinstance(plain, dict) else plain
    beside = "" if value is None else f", plain LightGBM {format_significant(value)}"
    return f"best constant prediction {format_significant(evaluation['dummy'][name])}{beside}"


def describe_costs(params: Params, evaluation: Mapping[str, Any], subject: Subject) -> str:
    """Return what acting on the predictions costs and saves, as a sentence; empty if no costs are declared."""
    found, costs = evaluation.get("threshold") or {}, params.evaluation.costs
    if not found or costs is None:
        return ""
    unit = f" {costs.unit}" if costs.unit else ""
    cheapest, other = sorted([("none", found["always_no"]), ("all", found["always_yes"])], key=lambda pair: pair[1])
    cost, saving = found["cost"], found["saving"]
    return (
        f"Acting on {format_share(found['acted'])} of {subject.rows}, those with a probability of at least "
        f"{found['threshold']:.2f}, costs {cost['value']:.2f}{unit} per {subject.row} "
        f"[{cost['low']:.2f}, {cost['high']:.2f}]; acting on {cheapest[0]} costs {cheapest[1]:.2f}, on {other[0]} "
        f"{other[1]:.2f}. On the holdout this saves {format_interval(**saving)}{unit} per {subject.row} against the "
        "cheaper of the two."
    )
