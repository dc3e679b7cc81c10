"""Plans a sweep, runs it, and keeps its result: `labkit sweep`.

Nothing starts before everything is checked. An experiment has one sweep at a time, because sweeps share its
nodes. The checkout is only read, and held only while the sweep is planned.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from labkit import paths
from labkit.errors import ParamsError, StageError, list_briefly
from labkit.params.load import load_file
from labkit.params.override import override_file
from labkit.run.capacity import count_cores
from labkit.run.cluster.address import open_cluster
from labkit.run.dvc_yaml import FINGERPRINT
from labkit.run.fingerprint.fingerprint_file import find_fingerprint_dir
from labkit.run.kernels.session import Kernels
from labkit.run.pipeline import dvc_repo, run_lock
from labkit.run.pipeline.experiment_run import check_own_code, describe_setting, start_work, write_settings
from labkit.run.pipeline.progress import Progress
from labkit.run.records import ledger, provenance, recovery
from labkit.run.records.stage_record import load_records
from labkit.stages import builtin
from labkit.sweep.nodes import Node, adopt_node, compute_files, load_node, prepare_point
from labkit.sweep.points import Point, make_points
from labkit.sweep.proposed_points import make_search_space, run_proposed
from labkit.sweep.result import Result, compute_params_digest, load_result, make_sweep_result, save_result
from labkit.sweep.sweep import Progression, Sweep
from labkit.units import format_count

if TYPE_CHECKING:
    from labkit.sweep.engine import Engine

COMMAND = "labkit sweep"
SOURCE, TRAINING = "source", "training"
"""The stage that puts the tables in place, and the one that a sweep stops after if it is given no other one: the
holdout rows stay unseen."""


@dataclass(frozen=True)
class SweepRequest:
    """The options of one sweep.

    Attributes
    ----------
    settings
        Params with their values, each `section.field=value,value`.
    n_random
        Number of combinations to draw at random; None for all.
    n_trials
        Number of points that Optuna proposes; None for a grid.
    n_jobs
        Largest number of stages that run at a time; None for the number of cores.
    until
        The stage to stop after.
    dask
        `local` or the address of a scheduler, to run stages on a Dask cluster; None for processes of this machine.
    """

    settings: Sequence[str]
    n_random: int | None = None
    n_trials: int | None = None
    n_jobs: int | None = None
    until: str | None = None
    dask: str | None = None


def run_sweep(experiment: str, request: SweepRequest, *, progress: Progress, show: Callable[[Result], None]) -> None:
    """Run a sweep and keep its result as the latest one; waits for another sweep of the experiment.

    Parameters
    ----------
    show
        Called with the result, also if points failed.

    Raises
    ------
    ParamsError, DataError, TrackingError
        The input is invalid; nothing was started.
    StageError
        Points failed; all others have a result.
    """
    points, stages = check_sweep(experiment, request, progress)
    with hold_sweep(experiment, progress) as has_waited:
        if has_waited:
            points, stages = check_sweep(experiment, request, progress)
        with open_engine(request) as engine:
            n_points = request.n_trials or len(points)
            progress.show(f"{format_count(n_points, 'point')}, each up to {stages[-1]}")
            run_points(experiment, points, stages, request=request, progress=progress, show=show, engine=engine)


@contextmanager
def open_engine(request: SweepRequest) -> Iterator["Engine"]:
    """Open what runs the nodes of a sweep for the time of the block.

    Raises
    ------
    ParamsError
        There is no such cluster.
    """
    from labkit.sweep.engine import LocalEngine

    if request.dask is None:
        yield LocalEngine(request.n_jobs or count_cores())
        return
    with open_cluster(request.dask, n_workers=request.n_jobs or count_cores()) as cluster:
        from labkit.sweep.dask_engine import DaskEngine

        yield DaskEngine(cluster, min(request.n_jobs or cluster.n_threads, cluster.n_threads))


def hold_sweep(experiment: str, progress: Progress) -> AbstractContextManager[bool]:
    """Hold the lock of an experiment's sweeps; the value is whether another sweep was waited for.

    The lock file is outside of the folder of sweeps, which may be removed.
    """
    path = paths.find_root() / ".labkit" / f"sweep-{experiment}.lock"
    return run_lock.hold(path, experiment, report=progress.show, command=COMMAND)


def check_sweep(experiment: str, request: SweepRequest, progress: Progress) -> tuple[list[Point], list[str]]:
    """Check everything that a sweep needs, and return its points and the stages that each goes through.

    Of a search, the points are those by which its space is checked.
    """
    file, stages = load_file(experiment), list_swept(experiment, request.until)
    if request.n_trials is None:
        points = make_points(file, request.settings, n_random=request.n_random)
    elif TRAINING in stages:
        points = make_search_space(file, request.settings, request.n_trials)[1]
    else:
        raise ParamsError(f"--optuna needs the score of the stage {TRAINING}: {stages[-1]} comes before it")
    for point in points:
        check_own_code(point.params, describe=describe_setting)
    start_work(
        points[0].params, builtin.PLAIN_STAGES, progress, names=stages, kernels=Kernels(is_cold=True)
    ).check_experiment()
    return points, stages


def run_points(
    experiment: str,
    points: Sequence[Point],
    stages: Sequence[str],
    *,
    request: SweepRequest,
    progress: Progress,
    show: Callable[[Result], None],
    engine: "Engine",
) -> None:
    """Plan and run the points of a sweep, with an entry in the ledger."""
    with run_lock.hold_experiment(experiment, report=progress.show, command=COMMAND):
        recovery.close_gone(progress.show)
        progressions = plan(experiment, points, stages, is_search=request.n_trials is not None)
    asked = {"settings": list(request.settings)} | ({"optuna": request.n_trials} if request.n_trials else {})
    facts = {**provenance.collect(), "kind": ledger.SWEEP, "asked": asked}
    with ledger.open_entry(experiment, facts=facts) as entry:
        result = perform(
            experiment, progressions, stages, request=request, progress=progress, entry=entry, engine=engine
        )
        show(result)
        if failed := [row for row in result.rows if row.failure]:
            raise StageError(
                f"{len(failed)} of {format_count(len(result.rows), 'point')} failed; the others are done:\n"
                + list_briefly([f"point {row.number}: {row.failure}" for row in failed], most=3)
            )


def list_swept(experiment: str, until: str | None) -> list[str]:
    """Return the stages that each point goes through.

    Raises
    ------
    ParamsError
        There is no such stage, or it publishes.
    """
    names = [name for name in dvc_repo.list_stages(experiment) if name not in (FINGERPRINT, dvc_repo.PUBLISH)]
    last = dvc_repo.check_stage(until, names) if until else TRAINING if TRAINING in names else names[-1]
    return names[: names.index(last) + 1]


def find_checkout_keys(experiment: str, stages: Sequence[str]) -> dict[str, str]:
    """Return the keys of the stages that are up to date in the checkout."""
    file = load_file(experiment)
    with dvc_repo.look_at_repo() as repo:
        builtin.perform_fingerprint(file.params, None)
        states = dvc_repo.find_stage_states(repo, experiment, until=stages[-1])
    fresh = {state.name for state in states if not state.reasons}
    checkout = Progression(Point(0, (), file), find_fingerprint_dir(experiment))
    for stage in stages:
        checkout.nodes[stage] = Node(stage, checkout.compute_key(stage), compute_files(experiment, stage))
    return {stage: node.key for stage, node in checkout.nodes.items() if stage in fresh}


def plan(experiment: str, points: Sequence[Point], stages: Sequence[str], *, is_search: bool) -> list[Progression]:
    """Return the points, after taking over what is up to date in the checkout and of use to one of them.

    A search has no points yet: all that is up to date is taken over.
    """
    known, file = find_checkout_keys(experiment, stages), load_file(experiment)
    if SOURCE in known:  # the contract lists the columns that there are now
        for point in points:
            builtin.check_params_columns(point.params, None)
    if not is_search:
        return [plan_point(point, stages, known) for point in points]
    for stage, key in known.items():
        if load_node(file.params, stage, key) is None:
            adopt_node(file.params, file.content, stage, key)
    return []


def plan_point(point: Point, stages: Sequence[str], known: Mapping[str, str]) -> Progression:
    """Return a point, with the nodes that are done or that the checkout has.

    Parameters
    ----------
    known
        Keys of the stages that are up to date in the checkout; its outputs must not change meanwhile.
    """
    one = Progression(point, prepare_point(point.params, point.file.content))
    for stage in stages:
        key = one.compute_key(stage)
        node = load_node(point.params, stage, key)
        if node is None and key == known.get(stage):
            node = adopt_node(point.params, point.file.content, stage, key)
        if node is None:
            break
        one.nodes[stage] = node
    return one


def perform(
    experiment: str,
    progressions: list[Progression],
    stages: Sequence[str],
    *,
    request: SweepRequest,
    progress: Progress,
    entry: ledger.Entry,
    engine: "Engine",
) -> Result:
    """Run the nodes that are not done, and record the result."""
    from labkit.run.records import tracking

    file = load_file(experiment)
    measured = load_records(paths.find_reports_dir(experiment))
    expected = {name: record.peak_bytes for name, record in measured.items()}
    os.environ.update(paths.make_environment())
    with ExitStack() as stack:
        tags = {"labkit.kind": ledger.SWEEP}
        parent = stack.enter_context(tracking.open_run(file.params, entry.run, parent_id=None, tags=tags, entry=entry))
        parent.params["settings"] = " ".join(request.settings)
        kernels = Kernels(is_cold=False)
        stack.enter_context(kernels).begin()
        sweep = Sweep(
            experiment,
            stages,
            progressions,
            engine,
            progress.show,
            paths.get_warm_address() or "",
            expected,
            stack,
            parent,
        )
        try:
            if request.n_trials is None:
                sweep.run()
            else:
                run_proposed(
                    sweep,
                    file,
                    make_search_space(file, request.settings, request.n_trials)[0],
                    n_trials=request.n_trials,
                    n_jobs=request.n_jobs,
                    plan_point=partial(plan_point, stages=stages, known={}),
                )
        finally:
            sweep.stop()
            result = make_sweep_result(sweep, entry.run, file.params.training.metric, n_trials=request.n_trials)
            save_result(result)
        parent.params["points"] = len(progressions)
        sweep.close_points()
        parent.status = "FAILED" if any(one.failure for one in progressions) else "FINISHED"
    return result


def adopt_point(experiment: str, word: str, progress: Progress) -> None:
    """Write the parameters of a point of the latest sweep into the params file.

    Parameters
    ----------
    word
        Number of the point, or `best`.

    Raises
    ------
    ParamsError
        There is no sweep, or no such point, its values are no longer valid, or the params file was changed since.
    """
    load_file(experiment)
    result = load_result(experiment)
    row = result.find_row(word)
    with run_lock.hold_experiment(experiment, report=progress.show, command="labkit sweep --adopt"):
        file = load_file(experiment)
        if compute_params_digest(override_file(file, row.settings).params) != row.params:
            raise ParamsError(
                f"{paths.show_path(file.path)}: changed since {result.run}, in more than what point {row.number} sets, "
                "so the point was measured with other params: run the same sweep again, which runs only what the "
                "change affects, or undo the change"
            )
        write_settings(experiment, row.settings, progress)
