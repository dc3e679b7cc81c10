"""The state of experiments: which stages are stale, why, and the latest results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from labkit import paths
from labkit.params.load import list_experiments, load_params
from labkit.run.dvc_yaml import FINGERPRINT
from labkit.run.pipeline import dvc_repo, run_lock
from labkit.run.records.stage_record import load_records
from labkit.stages import builtin
from labkit.stages.result import Result, find_result

NEVER, STALE, FRESH, ALWAYS = "never run", "stale", "up to date", "checked each time"


@dataclass(frozen=True)
class StageStatus:
    """One stage: its state, why it is stale, and its latest result."""

    stage: str
    state: str
    reasons: tuple[str, ...]
    headline: str


@dataclass(frozen=True)
class ExperimentStatus:
    """One experiment: its stages in order, and its latest result."""

    experiment: str
    stages: tuple[StageStatus, ...]
    result: Result | None

    @property
    def state(self) -> str:
        """The state of all stages together, as a phrase."""
        waiting = [stage for stage in self.stages if stage.state in (NEVER, STALE)]
        if not waiting:
            return FRESH
        if all(stage.state == NEVER for stage in self.stages):
            return NEVER
        return f"{len(waiting)} of {len(self.stages)} stale"

    @property
    def headline(self) -> str:
        """The latest result on one line: of the whole experiment, else of the last stage that has one."""
        if self.result:
            return f"{self.result.verdict}: {self.result.quality}"
        return next((f"{one.stage}: {one.headline}" for one in reversed(self.stages) if one.headline), "")

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "experiment": self.experiment,
            "state": self.state,
            "result": self.result.to_dict() if self.result else None,
            "stages": [asdict(stage) for stage in self.stages],
        }


def find_under_way() -> str:
    """Return a phrase about the runs that are under way in this checkout; empty if none is."""
    holders = run_lock.find_holders()
    return run_lock.describe_holders(holders) if holders else ""


def find_statuses(experiments: Sequence[str] = ()) -> list[ExperimentStatus]:
    """Return the state of some experiments, or of all.

    Parameters
    ----------
    experiments
        Names of experiments; all if empty.

    Raises
    ------
    ParamsError
        An experiment is unknown, or its params file is not valid.
    """
    found = []
    known = [load_params(experiment) for experiment in experiments or list_experiments()]
    with dvc_repo.look_at_repo() as repo:
        for params in known:
            experiment = params.experiment
            dvc_repo.list_stages(experiment)
            # A run that is under way depends on the code fingerprint that it wrote when it began.
            if run_lock.find_holder(experiment) is None:
                builtin.perform_fingerprint(params, None)
            records = load_records(paths.find_reports_dir(experiment))
            stages = tuple(
                StageStatus(
                    state.name,
                    name_state(state),
                    state.reasons,
                    records[state.name].headline if state.name in records else "",
                )
                for state in dvc_repo.find_stage_states(repo, experiment)
                if state.name != FINGERPRINT
            )
            found.append(ExperimentStatus(experiment, stages, find_result(experiment)))
    return found


def name_state(state: dvc_repo.StageState) -> str:
    """Return the state of a stage as a phrase."""
    if state.reasons == (dvc_repo.FIRST_RUN,):
        return NEVER
    if state.reasons:
        return STALE
    return ALWAYS if state.name == dvc_repo.PUBLISH else FRESH
