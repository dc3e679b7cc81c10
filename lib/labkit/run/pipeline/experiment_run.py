"""Runs an experiment from source to publication: stale stages in order, under one parent run.

Called by `labkit run` and `labkit stage`. The stages without a notebook are passed in, because this package is
independent of tables and models.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

from labkit import paths
from labkit.params.experiment import Params
from labkit.params.import_path import resolve_callable
from labkit.params.load import describe_key, load_file, load_params
from labkit.params.override import apply_overrides, override_file
from labkit.params.own_calls import hide_tables
from labkit.params.own_candidates import check_candidates, make_declared
from labkit.params.own_metrics import load_own_metric
from labkit.params.own_plots import OFFERED_TO_CHECKS, OFFERED_TO_PLOTS, load_function
from labkit.params.section import find_own_code
from labkit.params.subject import Subject
from labkit.params.trusted_types import find_type
from labkit.paths import show_path
from labkit.run import checkout
from labkit.run.dvc_yaml import FINGERPRINT
from labkit.run.fingerprint import packages
from labkit.run.kernels.session import Kernels, seem_needed
from labkit.run.notebook.parameters import make_parameters
from labkit.run.notebook.source import take_snapshot
from labkit.run.pipeline import dvc_repo, run_lock, stage_client
from labkit.run.pipeline.progress import Line, Progress
from labkit.run.pipeline.stages_in_order import PlainStage, Work
from labkit.run.records import ledger, mlflow_store, provenance, recovery
from labkit.run.records.stage_record import load_records
from labkit.secrets.secret import read_secrets


@dataclass(frozen=True)
class RunRequest:
    """The options of one run of an experiment.

    Attributes
    ----------
    until, force
        The stage to stop after, and one to run even if nothing has changed.
    is_waiting
        Wait for another run of this experiment instead of raising an error.
    is_locked
        Raise an error if the installed packages differ from the lock file, instead of a warning.
    settings
        Params to set in the params file first, each `section.field=value`.
    is_resumed
        Continue a stage that failed at the cell that failed, where the result is the same.
    """

    until: str | None = None
    force: str | None = None
    is_waiting: bool = True
    is_locked: bool = False
    settings: Sequence[str] = ()
    is_resumed: bool = False


def start_work(
    params: Params,
    plain: Mapping[str, PlainStage],
    progress: Progress,
    *,
    names: list[str],
    kernels: Kernels,
    sample_rows: int | None = None,
    is_alone: bool = False,
) -> Work:
    """Check everything that the named stages need before the first of them starts.

    Raises
    ------
    ParamsError
        DVC could not work in the checkout, code that the params name cannot be imported, a secret's variable is not
        set, `LABKIT_CORES` is not valid, or a notebook is missing or cannot run.
    TrackingError
        The tracking server cannot be reached.
    """
    checkout.check_checkout(params.experiment)
    paths.get_most_cores()
    check_own_code(params)
    secrets = read_secrets(params.secrets, where=show_path(paths.find_params_path(params.experiment)))
    mlflow_store.check_store(paths.get_tracking_uri())
    snapshot = take_snapshot([name for name in names if name not in plain], make_parameters(params))
    work = Work(params, plain, progress, ExitStack(), snapshot, secrets, kernels, sample_rows, is_alone)
    work.names = tuple(names)
    return work


def check_own_code(params: Params, describe: Callable[[Sequence[str | int]], str] | None = None) -> None:
    """Raise ParamsError if code that the params name cannot be imported, or is not what the params need there.

    Parameters
    ----------
    describe
        Gives the place of a key for messages; by default that in the params file.
    """
    describe = describe or partial(describe_key, params.experiment)
    hide_tables(params.experiment, params.data.files)
    for code in find_own_code(params):
        resolve_callable(code.text, where=describe(code.keys))
    training, target = params.training, params.data.target
    made = make_declared(training, target, seed=params.seed, describe=lambda at: describe(("training", "models", at)))
    check_candidates(made, target)
    evaluation = params.evaluation
    for place, path in enumerate(evaluation.metrics):
        load_own_metric(path, where=describe(("evaluation", "metrics", place)))
    for name, path in evaluation.checks.items():
        load_function(path, where=describe(("evaluation", "checks", name)), offered=OFFERED_TO_CHECKS)
    for place, path in enumerate(evaluation.plots):
        load_function(path, where=describe(("evaluation", "plots", place)), offered=OFFERED_TO_PLOTS)
    for place, path in enumerate(params.training.trusted_types):
        find_type(path, where=describe(("training", "trusted_types", place)))


def run_experiment(
    experiment: str, *, plain: Mapping[str, PlainStage], progress: Progress, kernels: Kernels, request: RunRequest
) -> list[Line]:
    """Run the stale stages of an experiment with DVC and return the lines of the closing table.

    Waits for another run of this experiment, or raises an error. Settings are written into the params file only after
    that, because the other run reads it.

    Raises
    ------
    ParamsError, DataError
        The input is invalid.
    StageError
        A stage failed; finished stages are kept.
    """
    params, until, force = load_params(experiment), request.until, request.force
    names = dvc_repo.list_stages(experiment)
    for word in (until, force):
        if word:
            dvc_repo.check_stage(word, names)
    asked = names[: names.index(until) + 1] if until else names
    work = start_work(params, plain, progress, names=asked, kernels=kernels)
    packages = check_locked_packages(work, is_locked=request.is_locked)
    with run_lock.hold_experiment(experiment, report=progress.show, is_waiting=request.is_waiting) as has_waited:
        if write_settings(experiment, request.settings, progress) or has_waited:
            work = start_work(load_params(experiment), plain, progress, names=asked, kernels=kernels)
        work.is_resumed = request.is_resumed
        return run_work(work, packages, until=until, force=force)


def run_work(
    work: Work, packages: Mapping[str, str], *, until: str | None = None, force: str | None = None
) -> list[Line]:
    """Run the stale stages of started work in a checkout that this process holds.

    Parameters
    ----------
    packages
        The packages that differ from the lock file, for the record.
    """
    recovery.close_gone(work.progress.show)
    if force or seem_needed(work.params.experiment):
        work.kernels.begin()
    repo = dvc_repo.open_repo(work.progress.show)
    # DVC names stages and files relative to the current folder.
    with chdir(paths.find_root()), open_pipeline(work, packages, until=until, force=force):
        return run_stale(work, repo, until=until, force=force)


def run_stale(work: Work, repo: Any, *, until: str | None, force: str | None) -> list[Line]:
    """Run the stale stages and show the closing table, even after an error."""
    experiment = work.params.experiment
    asked = dvc_repo.list_until(experiment, until)
    with work.parents, work.keep_record():
        try:
            serve_stages(work, repo, until=until, force=force)
        except Exception as stopped:
            # The error of the stage itself is more specific than DVC's.
            work.is_stopped = work.error is None
            raise work.error or stopped from stopped.__cause__
        finally:
            lines = close_lines(work, asked)
            work.progress.show_table(f"{experiment}: {Subject.from_params(work.params).question}", lines)
        if work.parent:
            work.parent.status = "FINISHED"
    return lines


def serve_stages(work: Work, repo: Any, *, until: str | None, force: str | None) -> None:
    """Let DVC run the stale stages while this thread does their work; without any, run only `publish`."""
    os.environ.update(paths.make_environment())
    experiment, names = work.params.experiment, dvc_repo.list_until(work.params.experiment, until)
    work.perform(FINGERPRINT)
    states = dvc_repo.find_stage_states(repo, experiment, until=until)
    if work.entry:
        work.entry.plan({state.name: list(state.reasons) for state in states if state.name != FINGERPRINT})
    if not force and not any(state.reasons for state in states):
        if dvc_repo.PUBLISH in names:
            work.perform(dvc_repo.PUBLISH)
        return
    work.kernels.begin()
    with stage_client.open_stage_server() as server:

        def reproduce() -> None:
            dvc_repo.reproduce(repo, experiment, until=until, force=force)

        def serve(is_over: Event) -> None:
            try:
                server.serve(is_over, work.handle_request)
            finally:
                # After an interrupt, nobody waits for a command of DVC any longer.
                repo.lock.is_patient = False

        dvc_repo.reproduce_beside(reproduce, serve)
    if dvc_repo.PUBLISH not in names:  # which restores them all
        restored = [state.name for state in states if state.reasons and state.name not in work.ran]
        if restored:
            from labkit.run.pipeline.restore_pages import restore_pages  # imports MLflow, which takes half a second

            restore_pages(work.params, stages=restored)


def write_settings(experiment: str, settings: Sequence[str], progress: Progress) -> bool:
    """Write settings into the params file, show the changes, and return whether there were settings.

    Raises
    ------
    ParamsError
        A value is not valid, or the code that it names; the file is then as it was.
    """
    if settings:
        check_own_code(override_file(load_file(experiment), settings).params, describe=describe_setting)
        progress.show(apply_overrides(experiment, settings) or "The params file has these values already.")
    return bool(settings)


def describe_setting(keys: Sequence[str | int]) -> str:
    """Return the place of a key that was set on the command line, for messages.

    >>> describe_setting(("training", "models", 1))
    '-S training.models'
    """
    return f"-S {'.'.join(key for key in keys if isinstance(key, str))}"


@contextmanager
def open_pipeline(work: Work, packages: Mapping[str, str], **words: Any) -> Iterator[None]:
    """Record a whole run in the ledger: its options, its provenance and its outcome.

    Raises
    ------
    TrackingError
        The experiment cannot be recorded; the ledger then has no line about the run.
    """
    experiment = work.params.experiment
    work.check_experiment()
    asked = {name: word for name, word in words.items() if word}
    facts = {**provenance.collect(), "asked": asked, "params": provenance.list_params(experiment)}
    facts |= {"packages": dict(packages)} if packages else {}
    with ledger.open_entry(experiment, facts=facts) as work.entry:
        yield


def check_locked_packages(work: Work, *, is_locked: bool) -> dict[str, str]:
    """Return the packages that differ from the lock file after a warning, or raise an error."""
    notebooks = [source.path for source in work.snapshot.values()]
    return packages.check_environment(notebooks, is_locked=is_locked, warn=work.progress.show)


def run_single_stage(
    stage: str,
    experiment: str,
    *,
    plain: Mapping[str, PlainStage],
    progress: Progress,
    kernels: Kernels | None = None,
) -> None:
    """Run one stage alone, stale or not: `labkit stage` without a runner, and each stage of a sweep."""
    params = load_params(experiment)
    dvc_repo.check_stage(stage, dvc_repo.list_stages(experiment))
    # For a single kernel, a server that imports everything does not pay off unless one is running already.
    kernels = kernels or Kernels(is_cold=True)
    work = start_work(params, plain, progress, names=[stage], kernels=kernels, is_alone=True)
    with run_lock.hold_experiment(experiment, report=progress.show) as has_waited:
        if has_waited:
            work = start_work(load_params(experiment), plain, progress, names=[stage], kernels=kernels, is_alone=True)
        recovery.close_gone(progress.show)
        os.environ.update(paths.make_environment())
        work.check_experiment()
        with work.parents, kernels, work.keep_record():
            if stage not in plain:
                kernels.begin()
            work.perform(stage)


def close_lines(work: Work, names: list[str]) -> list[Line]:
    """Return a line for every stage; those that were not run have their latest result."""
    records = load_records(paths.find_reports_dir(work.params.experiment))
    lines: list[Line] = []
    for name in names:
        if name == FINGERPRINT:
            continue
        if name in work.ran:
            lines.append(work.ran[name])
            continue
        is_after_failure = work.is_stopped or any(
            line.outcome in ("failed", "interrupted", "not run") for line in lines
        )
        headline = records[name].headline if name in records and not is_after_failure else ""
        lines.append(Line(name, "not run" if is_after_failure else explain_skip(work, name), None, headline))
    return lines


def explain_skip(work: Work, stage: str) -> str:
    """Return why a stage did not have to run, with the terms of `labkit why`."""
    reasons = work.entry.reasons if work.entry else None
    return "restored" if (reasons or {}).get(stage) else "up to date"
