"""Running an experiment from source to publication: stale stages in order, one parent run around them.

What `labkit run` and `labkit stage` call. The stages without a notebook are handed in, because the machinery knows
nothing of tables and models.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from labkit import paths
from labkit.counts import format_count
from labkit.errors import LabkitError, StageError
from labkit.params import Params
from labkit.params_file import apply_overrides, describe_params, load_params, tell_changed
from labkit.paths import show
from labkit.run import checkout, client, ledger, lock, pipeline, provenance, reconcile, store
from labkit.run.declarations import load_declarations
from labkit.run.kernels import STAGE_MODULE, TRACKING_MODULE, Kernels, seem_needed
from labkit.run.ledger import Entry
from labkit.run.notebooks import Snapshot, take_snapshot
from labkit.run.parameters import make_parameters
from labkit.run.progress import Line, Progress
from labkit.run.record import compute_outputs, load_records
from labkit.secret import Mask, read_secrets

if TYPE_CHECKING:
    from labkit.run.tracking import Record

PlainStage = Callable[[Params, int | None], str]
"""A stage without a notebook: given the params and a sample's rows, does it and returns a headline."""


@dataclass
class Work:
    """One run of an experiment: what has been done so far and what went wrong."""

    params: Params
    plain: Mapping[str, PlainStage]
    progress: Progress
    parents: ExitStack
    snapshot: Snapshot
    secrets: Mapping[str, str]
    kernels: Kernels
    sample_rows: int | None = None
    is_alone: bool = False
    is_stopped: bool = False
    entry: Entry | None = None
    parent: "Record | None" = None
    ran: dict[str, Line] = field(default_factory=dict)
    error: LabkitError | None = None

    def perform(self, stage: str) -> str:
        """Run one stage and return its headline."""
        if stage == pipeline.FINGERPRINT:
            return self.plain[stage](self.params, self.sample_rows)
        pages = paths.find_reports_dir(self.params.experiment)
        last = load_records(pages / "sample" if self.sample_rows else pages).get(stage)
        self.progress.start_stage(stage, last.cells if last else ())
        started = time.monotonic()
        outcome, headline = "failed", ""
        try:
            self.check_params()
            headline = self.perform_recorded(stage)
            outcome = "ran"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            self.ran[stage] = Line(stage, outcome, time.monotonic() - started, headline)
            # The message of a failure is printed once, at the end.
            self.progress.end_stage(outcome, headline)
        return headline

    def perform_recorded(self, stage: str) -> str:
        """Run one stage between its lines in the ledger."""
        parent = self.entry.run if self.entry else None
        facts = collect_facts(self.params, stage, self.sample_rows)
        if stage in self.snapshot:
            facts["notebook_sha256"] = self.snapshot[stage].digest
        with ledger.open_entry(self.params.experiment, stage, parent=parent, facts=facts) as entry:
            try:
                return self.perform_plain(stage, entry) if stage in self.plain else self.perform_notebook(stage, entry)
            except Exception as error:
                cleaned = Mask(self.secrets).clean_text(str(error))
                if cleaned != str(error) and self.secrets:
                    # Without its cause, which would show the secret again.
                    raise (type(error) if isinstance(error, LabkitError) else StageError)(cleaned) from None
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    ledger.release_spare()
                    raise StageError(f"stage {stage} failed: disk full: {error}: make room, then run again") from error
                raise

    def check_params(self) -> None:
        """Refuse to go on once the params file says something else."""
        if changed := tell_changed(self.params):
            raise StageError(changed)

    def perform_plain(self, stage: str, entry: Entry) -> str:
        """Run a stage without a notebook; all but the one that is called each time stand below the parent run."""
        if stage == pipeline.PUBLISH:
            self.kernels.wait_for()
        elif not self.is_alone:
            self.open_parent()
        headline = str(Mask(self.secrets).clean(self.plain[stage](self.params, self.sample_rows)))
        self.check_params()
        experiment = self.params.experiment
        folder = paths.find_scratch_dir(experiment) if self.sample_rows else paths.find_data_dir(experiment)
        entry.add_outputs(folder, compute_outputs(folder, load_declarations(experiment)[stage].outputs))
        return headline

    def perform_notebook(self, stage: str, entry: Entry) -> str:
        """Run a notebook stage below the parent run, which the first of them opens."""
        # Imported on first need: with nothing to do, neither MLflow nor papermill is.
        self.kernels.wait_for(STAGE_MODULE)
        from labkit.run import stage as notebook_stage

        source, mask = self.snapshot[stage], Mask(self.secrets)
        try:
            done = notebook_stage.run_stage(
                stage,
                self.params,
                source=source,
                progress=self.progress,
                entry=entry,
                parent_id=paths.get_parent_run_id() if self.is_alone else self.open_parent(),
                mask=mask,
                sample_rows=self.sample_rows,
            )
        finally:
            # From the second notebook on this process has time: the first waits for all that kernels need.
            self.kernels.begin_importing(*self.kernels.later)
            if warning := mask.tell():
                self.progress.say(f"warning: {stage}: {warning}")
            if not source.is_current:
                self.progress.say(
                    f"warning: {show(source.path)} was changed meanwhile; what ran is what it was when the run began; "
                    f"to run the new one: labkit run {self.params.experiment} --force {stage}"
                )
        return done.headline

    def open_parent(self) -> str:
        """Open the parent run unless it is open, and return its id."""
        self.kernels.wait_for(TRACKING_MODULE)
        from labkit.run import tracking

        if self.parent is None:
            assert self.entry
            kind = "sample" if self.sample_rows else "pipeline"
            self.parent = self.parents.enter_context(
                tracking.open_run(
                    self.params, self.entry.run, parent_id=None, tags={"labkit.kind": kind}, entry=self.entry
                )
            )
            tracking.log_file(self.parent.run_id, paths.find_params_path(self.params.experiment))
        return self.parent.run_id

    def answer(self, stage: str, experiment: str) -> client.Answer:
        """Run the stage that a stage process asks for."""
        if experiment != self.params.experiment:
            return client.Answer(2, f"this run is of {self.params.experiment}, not of {experiment}")
        try:
            self.perform(stage)
        except LabkitError as error:
            self.error = error
            return client.Answer(error.exit_code, str(error))
        return client.Answer(0)


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
    """Check whatever the named stages need, all of it before the first of them starts.

    Raises
    ------
    ParamsError
        The checkout is not as DVC needs it, a secret's variable is not set, or a notebook is not there or cannot run.
    TrackingError
        The tracking server is not there.
    """
    checkout.check_checkout(params.experiment)
    secrets = read_secrets(params.secrets, where=show(paths.find_params_path(params.experiment)))
    store.check_store(paths.get_tracking_uri())
    snapshot = take_snapshot([name for name in names if name not in plain], make_parameters(params))
    return Work(params, plain, progress, ExitStack(), snapshot, secrets, kernels, sample_rows, is_alone)


def run_experiment(
    experiment: str,
    *,
    plain: Mapping[str, PlainStage],
    progress: Progress,
    kernels: Kernels,
    until: str | None = None,
    force: str | None = None,
    is_waiting: bool = True,
    settings: Sequence[str] = (),
) -> list[Line]:
    """Run what is stale of an experiment, through DVC, and return the closing table's lines.

    Another run of this checkout is waited for, or, without `is_waiting`, is a reason to refuse. Only after it are
    `settings` written into the params file, which it reads.

    Raises
    ------
    ParamsError, DataError
        The input is at fault.
    StageError
        A stage failed; what had finished is kept.
    """
    params = load_params(experiment)
    names = pipeline.list_stages(experiment)
    for word in (until, force):
        if word:
            pipeline.check_stage(word, names)
    asked = names[: names.index(until) + 1] if until else names
    work = start_work(params, plain, progress, names=asked, kernels=kernels)
    with lock.hold_checkout(experiment, say=progress.say, is_waiting=is_waiting) as has_waited:
        if write_settings(experiment, settings, progress) or has_waited:
            work = start_work(load_params(experiment), plain, progress, names=asked, kernels=kernels)
        close_gone(progress)
        if force or seem_needed(experiment):
            kernels.begin()
        repo = pipeline.open_repo()
        with open_pipeline(work, until=until, force=force):
            return run_stale(work, repo, until=until, force=force)


def run_stale(work: Work, repo: Any, *, until: str | None, force: str | None) -> list[Line]:
    """Run what is stale and show the closing table, however it ends."""
    experiment = work.params.experiment
    asked = pipeline.list_until(experiment, until)
    with work.parents:
        try:
            serve_stages(work, repo, until=until, force=force)
        except Exception as stopped:
            # A stage's own error says more than what DVC makes of it.
            work.is_stopped = work.error is None
            raise work.error or stopped from stopped.__cause__
        finally:
            lines = close_lines(work, asked)
            work.progress.show_table(experiment, lines)
        if work.parent:
            work.parent.status = "FINISHED"
    return lines


def serve_stages(work: Work, repo: Any, *, until: str | None, force: str | None) -> None:
    """Let DVC run the stale stages while this thread does their work; without any, only what is done each time."""
    os.environ.update(paths.make_environment())
    experiment, names = work.params.experiment, pipeline.list_until(work.params.experiment, until)
    work.perform(pipeline.FINGERPRINT)
    states = pipeline.find_states(repo, experiment, until=until)
    if work.entry:
        work.entry.plan({state.name: list(state.reasons) for state in states if state.name != pipeline.FINGERPRINT})
    if not force and not any(state.reasons for state in states):
        if pipeline.PUBLISH in names:
            work.perform(pipeline.PUBLISH)
        return
    work.kernels.begin()
    with client.open_server() as server:

        def reproduce() -> None:
            pipeline.reproduce(repo, experiment, until=until, force=force)

        def serve(is_over: Event) -> None:
            server.serve(is_over, work.answer)

        pipeline.reproduce_beside(reproduce, serve)


def run_sample(
    experiment: str,
    *,
    rows: int,
    plain: Mapping[str, PlainStage],
    progress: Progress,
    kernels: Kernels,
    until: str | None = None,
    is_waiting: bool = True,
    settings: Sequence[str] = (),
) -> list[Line]:
    """Run every stage on a sample of the main table, in scratch: nothing of the pipeline is touched or published."""
    params = load_params(experiment)
    names = [name for name in pipeline.list_stages(experiment) if name not in (pipeline.FINGERPRINT, pipeline.PUBLISH)]
    if until:
        names = names[: names.index(pipeline.check_stage(until, names)) + 1]
    work = start_work(params, plain, progress, names=names, kernels=kernels, sample_rows=rows)
    with lock.hold_checkout(experiment, say=progress.say, is_waiting=is_waiting) as has_waited:
        if write_settings(experiment, settings, progress) or has_waited:
            work = start_work(load_params(experiment), plain, progress, names=names, kernels=kernels, sample_rows=rows)
        close_gone(progress)
        os.environ.update(paths.make_environment())
        with open_pipeline(work, until=until, sample_rows=rows), work.parents:
            try:
                kernels.begin()
                for name in names:
                    work.perform(name)
            finally:
                lines = close_lines(work, names)
                progress.show_table(f"{experiment} (sample of {format_count(rows, 'row')})", lines)
            if work.parent:
                work.parent.status = "FINISHED"
    return lines


def write_settings(experiment: str, settings: Sequence[str], progress: Progress) -> bool:
    """Write settings into the params file, say what they change, and tell whether there were any."""
    if settings:
        progress.say(apply_overrides(experiment, list(settings)) or "The params file says so already.")
    return bool(settings)


@contextmanager
def open_pipeline(work: Work, **words: Any) -> Iterator[None]:
    """Write the lines of a whole run to the ledger: what was asked for, what it is made of, how it ended."""
    experiment = work.params.experiment
    asked = {name: word for name, word in words.items() if word}
    facts = {**provenance.collect(), "asked": asked, "params": list_changed(experiment)}
    with ledger.open_entry(experiment, facts=facts) as work.entry:
        yield


def list_changed(experiment: str) -> dict[str, str]:
    """Return the parameters that are not at their defaults, as text."""
    return {entry.name: str(entry.value) for entry in describe_params(experiment) if entry.origin != "default"}


def collect_facts(params: Params, stage: str, sample_rows: int | None) -> dict[str, Any]:
    """Return what one stage is made of: the digests of what it reads, one of which stands for its code."""
    if stage == pipeline.PUBLISH:
        return {}
    facts: dict[str, Any] = {"sample_rows": sample_rows} if sample_rows else {}
    declared = load_declarations(params.experiment)[stage]
    return {**facts, "inputs": ledger.collect_digests(list(declared.inputs))}


def close_gone(progress: Progress) -> None:
    """Close what killed runs left open, and say so."""
    for line in reconcile.tell(reconcile.reconcile()):
        progress.say(line)


def run_stage(stage: str, experiment: str, *, plain: Mapping[str, PlainStage], progress: Progress) -> None:
    """Run one stage alone, stale or not: what `labkit stage` does when no runner started it."""
    params = load_params(experiment)
    pipeline.check_stage(stage, pipeline.list_stages(experiment))
    # One kernel alone is not worth a process that imports everything, unless there is one already.
    kernels = Kernels(is_cold=True)
    work = start_work(params, plain, progress, names=[stage], kernels=kernels, is_alone=True)
    with lock.hold_checkout(experiment, say=progress.say) as has_waited:
        if has_waited:
            work = start_work(load_params(experiment), plain, progress, names=[stage], kernels=kernels, is_alone=True)
        close_gone(progress)
        os.environ.update(paths.make_environment())
        with work.parents, kernels:
            if stage not in plain:
                kernels.begin()
            work.perform(stage)


def close_lines(work: Work, names: list[str]) -> list[Line]:
    """Return a line for every stage, those that were not run with their latest figures."""
    records = load_records(paths.find_reports_dir(work.params.experiment))
    lines: list[Line] = []
    for name in names:
        if name == pipeline.FINGERPRINT:
            continue
        if name in work.ran:
            lines.append(work.ran[name])
            continue
        is_after_failure = work.is_stopped or any(
            line.outcome in ("failed", "interrupted", "not run") for line in lines
        )
        headline = records[name].headline if name in records and not is_after_failure else ""
        lines.append(Line(name, "not run" if is_after_failure else "cached", None, headline))
    return lines
