"""The stages of one experiment as tasks: which follows which, as dvc.yaml declares, and how long each may take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labkit.errors import ParamsError, name_nearest
from labkit.params.load import load_params
from labkit.run.dvc_yaml import list_producers
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
        graphs.append(TaskGraph(name, check_producers(list_producers(name)), limit))
    return graphs


def check_producers(producers: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return by stage those whose outputs it reads, or raise an error if one of them comes later in dvc.yaml."""
    done: dict[str, tuple[str, ...]] = {}
    for name, before in producers.items():
        if later := next((other for other in before if other not in done), None):
            raise ParamsError(
                f"dvc.yaml: stage {name} reads what {later} writes, which comes after it: move {later} before {name}"
            )
        done[name] = before
    return done
