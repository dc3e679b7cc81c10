"""The versions of registered models: how good each is, which is in service, since when, and why."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from labkit import paths
from labkit.artifacts import PLACES
from labkit.console import make_printable
from labkit.errors import DataError
from labkit.model.release import bundle
from labkit.params.experiment import Params
from labkit.run.pipeline.outputs import check_outputs
from labkit.run.records import mlflow_store, registry
from labkit.run.records.champion_moves import CHAMPION, Move, load_moves
from labkit.run.records.ledger import compute_size
from labkit.run.records.run_history import show_age
from labkit.stages.result import find_evaluation
from labkit.storage.atomic import parse_json
from labkit.units import format_count, format_interval, format_significant, format_size

METRIC_TAG, SIZE_TAG, DECISION_TAG = "labkit.metric", "labkit.release_bytes", "labkit.decision"
"""Tags of a version: its metric on the holdout as JSON, the size of its release, and the decision about it in words."""
REFIT_TAG = "labkit.refit"
"""Tag of a version that was refitted on all rows: what its metrics were measured on, in words."""


@dataclass(frozen=True)
class ModelVersion:
    """One version of an experiment's model.

    Attributes
    ----------
    aliases
        `champion`, `challenger`, or others.
    metric, value, low, high
        The main metric on the holdout with its interval; None where it is not recorded.
    n_bytes
        Size of its release; None if it is not recorded.
    at, by, why
        The latest move that made it the champion, or else its registration and the decision about it.
    run, digest
        MLflow run that made it, and SHA-256 of its release.
    moves
        All moves that made it the champion, the earliest first.
    refit
        If it was refitted on all rows, what its metrics were measured on; else empty.
    """

    experiment: str
    version: int
    aliases: tuple[str, ...]
    metric: str | None
    value: float | None
    low: float | None
    high: float | None
    n_bytes: int | None
    at: str
    by: str
    why: str
    run: str
    digest: str
    moves: tuple[Move, ...]
    refit: str = ""

    @property
    def is_champion(self) -> bool:
        """Whether it is in service."""
        return CHAMPION in self.aliases

    @property
    def quality(self) -> str:
        """The metric with its interval, without its name; empty where it is not recorded."""
        if self.value is None:
            return ""
        if self.low is None or self.high is None:
            return format_significant(self.value)
        return format_interval(self.value, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Return the version as plain data; without `refit` if it was not refitted."""
        return {name: value for name, value in asdict(self).items() if name != "refit" or value}


def describe_release(params: Params, opened: bundle.Release) -> dict[str, str]:
    """Return tags for a new version: the main metric of its release with the interval, its size, and its refit."""
    name = params.training.metric
    measured: dict[str, Any] = {"value": opened.facts.get("metrics", {}).get(f"holdout_{name}")}
    data = paths.find_data_dir(params.experiment)
    # Without an evaluation of this release (that of another model has another value) there is no interval.
    with suppress(DataError, OSError, ValueError, KeyError, TypeError):
        check_outputs(params.experiment, [data / PLACES["evaluation"]])
        evaluation = find_evaluation(data)
        if evaluation["metric"] == name and evaluation["holdout"][name]["value"] == measured["value"]:
            measured = evaluation["holdout"][name]
    return {
        METRIC_TAG: json.dumps({"name": name, **measured}),
        SIZE_TAG: str(compute_size(opened.folder)),
        **({REFIT_TAG: refit["description"]} if (refit := opened.facts.get("refit")) else {}),
    }


def list_versions(experiment: str) -> list[ModelVersion]:
    """Return the versions of an experiment's model, the newest first; none if nothing is registered yet.

    Raises
    ------
    TrackingError
        The registry cannot be read.
    """
    if not mlflow_store.check_existing_store():
        return []
    moves = load_moves(experiment)
    return [make_version(experiment, found, moves) for found in reversed(registry.list_versions(experiment))]


def list_champions(experiments: Sequence[str]) -> list[tuple[str, ModelVersion | None, int]]:
    """Return each experiment with its champion, None if it has none, and its number of versions."""
    found = [(name, list_versions(name)) for name in experiments]
    return [(name, next((one for one in some if one.is_champion), None), len(some)) for name, some in found]


def make_version(experiment: str, found: registry.VersionRecord, moves: Sequence[Move]) -> ModelVersion:
    """Return a version from what the registry holds of it."""
    tags, number = found.tags, found.version.number
    made = tuple(move for move in moves if move.after == number)
    measured = load_metric(tags.get(METRIC_TAG, ""))
    size = tags.get(SIZE_TAG, "")
    last = made[-1] if made else None
    return ModelVersion(
        experiment=experiment,
        version=number,
        aliases=found.aliases,
        metric=measured.get("name"),
        value=measured.get("value"),
        low=measured.get("low"),
        high=measured.get("high"),
        n_bytes=int(size) if size.isdecimal() else None,
        at=last.at if last else found.at,
        by=last.by if last else tags.get("labkit.registered_by", ""),
        why=f"{last.kind}: {last.reason}" if last else tags.get(DECISION_TAG, ""),
        run=found.version.run_id,
        digest=found.version.digest,
        moves=made,
        refit=tags.get(REFIT_TAG, ""),
    )


def load_metric(content: str) -> dict[str, Any]:
    """Return what the tag of the metric holds; nothing if it was never set or set by hand to something else."""
    try:
        found = parse_json(content.encode())
    except ValueError:
        return {}
    is_known = isinstance(found, dict) and isinstance(found.get("value"), int | float)
    return dict(found) if is_known else {}


def describe_version(one: ModelVersion) -> tuple[str, ...]:
    """Return a version as the cells of a line: number and aliases, and what `describe_details` returns."""
    return "\n".join([f"{one.version}", *(f"({alias})" for alias in one.aliases)]), *describe_details(one)


def describe_refits(versions: Sequence[ModelVersion], *, is_named: bool = False) -> list[str]:
    """Return a sentence for each version that was refitted, with its experiment if `is_named`."""
    return [
        make_printable(f"{f'{one.experiment} ' if is_named else ''}version {one.version}: {one.refit}")
        for one in versions
        if one.refit
    ]


def describe_champion(experiment: str, champion: ModelVersion | None, n_versions: int) -> tuple[str, ...]:
    """Return an experiment's champion as the cells of a line: experiment, number, `describe_details`."""
    if champion is None:
        return make_printable(experiment), "none", "", "", "", "", f"{format_count(n_versions, 'version')} registered"
    return make_printable(experiment), f"{champion.version}", *describe_details(champion)


def describe_details(one: ModelVersion) -> tuple[str, ...]:
    """Return cells of a version: metric with interval, size, since when, by whom, why."""
    size = "" if one.n_bytes is None else format_size(one.n_bytes)
    # The machine of the person is in `--json`.
    by, why = one.by.partition("@")[0], make_printable(one.why)
    return " ".join(filter(None, [one.metric, one.quality])), size, show_age(one.at), make_printable(by), why


def make_champion_document(experiment: str, champion: ModelVersion | None, n_versions: int) -> dict[str, Any]:
    """Return an experiment's champion as plain data."""
    return {
        "experiment": experiment,
        "champion": None if champion is None else champion.to_dict(),
        "n_versions": n_versions,
    }
