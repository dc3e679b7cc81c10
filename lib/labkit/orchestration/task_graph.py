"""The stages of one experiment as tasks: which follows which, as dvc.yaml declares, and how long each may take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import ParamsError, name_nearest
from labkit.params.load import load_params
from labkit.run.dvc_yaml import FINGERPRINT, load_declarations
from labkit.run.pipeline import dvc_repo

START_SECONDS = 600
"""What a task takes at most beside its stage: imports, DVC, and the stages before it that are up to date."""


@dataclass(frozen=True)
class TaskGraph:
    """The stages of one experiment, in the order in which they run.

    Attributes
    ----------
    stages
        By stage, those that write what it reads.
    seconds
        Time limit of each task.
    """

    experiment: str
    stages: dict[str, tuple[str, ...]]
    seconds: int


def load_task_graphs(experiments: Sequence[str], *, seconds: int | None = None) -> list[TaskGraph]:
    """Return the tasks of some experiments, or of all in dvc.yaml.

    Parameters
    ----------
    experiments
        Names of experiments; all if empty.
    seconds
        Time limit of each task; by default `limits.stage_seconds` of the params, and ten minutes more.

    Raises
    ------
    ParamsError
        An experiment is unknown, its params file is not valid, or a stage reads what a later one writes.
    """
    listed = dvc_repo.list_pipeline_experiments()
    names = [*dict.fromkeys(experiments or listed)]
    if not names:
        raise ParamsError("dvc.yaml lists no experiment: `labkit new` adds one")
    graphs = []
    for name in names:
        params = load_params(name)
        if name not in listed:
            raise ParamsError(f"dvc.yaml does not list {name!r}: {name_nearest(name, listed)}")
        limit = seconds or math.ceil(params.limits.stage_seconds) + START_SECONDS
        graphs.append(TaskGraph(name, find_producers(name), limit))
    return graphs


def find_producers(experiment: str) -> dict[str, tuple[str, ...]]:
    """Return by stage the stages that write what it reads, in the order of dvc.yaml."""
    declared = {name: one for name, one in load_declarations(experiment).items() if name != FINGERPRINT}
    written = {name: [f"data/{experiment}/{output}" for output in one.outputs] for name, one in declared.items()}
    found: dict[str, tuple[str, ...]] = {}
    for name, one in declared.items():
        before = [
            other
            for other, outputs in written.items()
            if other != name and any(is_within(a, b) or is_within(b, a) for a in one.inputs for b in outputs)
        ]
        if later := next((other for other in before if other not in found), None):
            raise ParamsError(
                f"dvc.yaml: stage {name} reads what {later} writes, which comes after it: move {later} before {name}"
            )
        found[name] = tuple(before)
    return found


def is_within(path: str, folder: str) -> bool:
    """Return whether a path is a folder or in it."""
    return path == folder or path.startswith(f"{folder}/")
