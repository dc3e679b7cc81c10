"""Runs one notebook stage: executes the notebook, puts the outputs in place, records the run, renders the page.

What happens inside the notebook: `labkit.run.notebook.step`. The order of stages: `labkit.run.pipeline.dvc_repo`.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from labkit import paths
from labkit.errors import LabkitError, LostStoreError, StageError, list_briefly
from labkit.params.experiment import Params
from labkit.params.override import describe_edit
from labkit.paths import show_path
from labkit.run.dvc_yaml import compute_key, load_declarations
from labkit.run.fingerprint.observation import Observation, add_reads, keep_reads, observe
from labkit.run.fingerprint.stage_key import compute_code_digest
from labkit.run.notebook.checkpoints import Checkpointer
from labkit.run.notebook.execution import Live
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.parameters import make_parameters
from labkit.run.notebook.result import Execution, Failure
from labkit.run.notebook.source import NotebookSource
from labkit.run.notebook.stage_table import load_stage_section
from labkit.run.notebook.step import LOG_NAME, OUTPUTS_NAME
from labkit.run.notebook.step_log import Log, check_finished, load_log
from labkit.run.pipeline.kept_state import KeptState, discard_kept
from labkit.run.pipeline.kernel_environment import make_kernel_environment
from labkit.run.pipeline.outputs import place_outputs
from labkit.run.pipeline.progress import Progress
from labkit.run.pipeline.resume import Resume, find_kept, store_kept, take_work
from labkit.run.pipeline.run_summary import make_sample_tags
from labkit.run.pipeline.stage_error import make_error
from labkit.run.pipeline.stage_page import find_pages_dir, find_title, list_parameters, publish_page
from labkit.run.records import provenance, tracking
from labkit.run.records.ledger import Entry
from labkit.run.records.stage_record import PAGE_ENDINGS, StageRecord, compute_outputs, load_records, save_record
from labkit.secrets.detection import check_files
from labkit.secrets.redaction import Mask
from labkit.storage import append
from labkit.units import format_count


@dataclass(frozen=True)
class RunKind:
    """What kind of run a stage is part of.

    Attributes
    ----------
    sample_rows
        Rows of a sample run, which reads and writes scratch; None for the pipeline.
    resume
        Continues a stage that failed, and keeps the state of one that fails; None: neither.
    """

    sample_rows: int | None = None
    resume: Resume | None = None


def run_notebook_stage(
    stage: str,
    params: Params,
    *,
    source: NotebookSource,
    progress: Progress,
    entry: Entry,
    parent_id: str | None,
    mask: Mask,
    kind: RunKind = RunKind(),
) -> StageRecord:
    """Run one notebook stage and record how it ended, even after an error.

    Parameters
    ----------
    source
        The stage's notebook as it was when the run began.
    entry
        The ledger entry of this run; gets the outcome, the outputs and the peak memory.
    parent_id
        MLflow run of the pipeline run, or None for a stage run alone.
    mask
        Keeps secrets out of the records.
    kind
        Whether it is a sample run, and whether it may continue a stage that failed.

    Raises
    ------
    ParamsError, DataError
        The notebook rejected its input.
    StageError
        The notebook failed.
    LostStoreError
        MLflow could not record the run.
    """
    resume, sample_rows = kind.resume, kind.sample_rows
    path, code = source.path, compute_code_digest(source.path, params, stage=stage)
    tags = {"labkit.stage": stage, "mlflow.source.name": show_path(path), **make_sample_tags(sample_rows)}
    before = resume.find(stage, params, source, entry.facts.get("inputs", {})) if resume else None
    performance = Performance(stage, params, source, entry, mask, sample_rows, code, resume, before)
    if before:
        # Before its folder is there, which commands that clean up would remove.
        entry.note_resumed(before.describe())
    try:
        with (
            tracking.open_run(params, stage, parent_id=parent_id, tags=tags, entry=entry) as record,
            make_work_dir(before.folder if before else entry.run) as work,
        ):
            performance.execute(work, record, progress)
            done = performance.finish(work, record)
            if resume:
                resume.forget(params.experiment, stage)
            if untracked := performance.seen.untracked:
                progress.show(f"warning: {stage}: its page lists the dependencies that are not tracked: {untracked[0]}")
            return done
    except LostStoreError:
        # The page may already show that the stage finished.
        performance.disown()
        raise


def check_params_unchanged(params: Params, notebook: Any) -> Failure | None:
    """Return a failure if the params file was changed while the notebook, which reads it, was running."""
    n_cells, changed = len(notebook.cells), describe_edit(params)
    return Failure(n_cells, n_cells, "", "", "StageError", changed) if changed else None


@dataclass
class Performance:
    """One run of one notebook stage: its execution and its record."""

    stage: str
    params: Params
    source: NotebookSource
    entry: Entry
    mask: Mask
    sample_rows: int | None
    code: str
    resume: Resume | None = None
    before: KeptState | None = None
    execution: Execution | None = None
    done: StageRecord | None = None
    seen: Observation = field(default_factory=Observation)

    def execute(self, work: Path, record: tracking.Record, progress: Progress) -> None:
        """Execute the notebook in a work folder, from the first cell or from the one at which an earlier run failed."""
        tracking.log_values(record.run_id, params=flatten_section(self.params, self.stage))
        try:
            self.execute_from(work, record, progress)
        except LabkitError:
            if self.before is None:
                raise
            progress.show(f"{self.stage} starts at its first cell: its kernel could not be continued.")
            self.before = None
            discard_kept(self.params.experiment)
            shutil.rmtree(work)
            work.mkdir()
            # Commands that clean up must still spare the folder.
            self.entry.note_resumed({"folder": work.name})
            self.execute_from(work, record, progress)
        assert self.execution
        if self.before:
            record.tags |= self.before.make_tags()
        if self.execution.cut:
            progress.show(f"warning: {self.stage}: {self.execution.cut}")

    def execute_from(self, work: Path, record: tracking.Record, progress: Progress) -> None:
        """Execute the notebook, after those cells that an earlier run has executed, if it continues one."""
        path, params = self.source.path, self.params
        start = None
        if self.before:
            start = take_work(self.before, params.experiment)
        least = params.limits.checkpoint_seconds if self.resume else None
        self.checkpointer = Checkpointer(work, least, start)
        with open_page_log(params.experiment, path.stem, self.sample_rows) as log:
            self.execution = run_notebook(
                self.source,
                work / path.name,
                parameters=make_parameters(params),
                environment=make_kernel_environment(work, run_id=record.run_id, sample_rows=self.sample_rows),
                on_cell=progress.start_cell,
                limits=params.limits,
                live=Live(log, progress.show_memory, self.checkpointer),
                mask=self.mask,
            )

    def keep_state(self, work: Path) -> str:
        """Keep the state before the cell that failed; return how to continue from it, empty if that is not possible."""
        assert self.execution
        if not self.resume or not self.execution.failure:
            return ""
        facts = {"run": self.entry.run, "inputs": self.entry.facts.get("inputs", {}), "before": self.before}
        kept = find_kept(self.checkpointer, stage=self.stage, params=self.params, source=self.source, **facts)
        store_kept(kept, self.params.experiment, work)
        if kept.why_not:
            self.checkpointer.discard()
        return kept.advise(self.params.experiment)

    def finish(self, work: Path, record: tracking.Record) -> StageRecord:
        """Put the outputs in place if the notebook succeeded, publish the page, and raise the notebook's error."""
        assert self.execution
        execution, path, notebook, entry = self.execution, self.source.path, self.source.notebook, self.entry
        log = load_log(work / LOG_NAME, self.mask)
        self.seen = observe(work, self.stage, params=self.params, start=path, mask=self.mask)
        failure = (
            execution.failure
            or check_finished(log, len(notebook.cells))
            or check_params_unchanged(self.params, notebook)
        )
        try:
            log_results(log, record, self.params, peak_bytes=execution.peak_bytes, source=show_path(path))
            tracking.log_digests(record.run_id, self.collect_digests())
        except LostStoreError as error:
            # Shown on the page too; an error of the notebook itself takes precedence.
            n_cells = len(notebook.cells)
            failure = failure or Failure(n_cells, n_cells, "", "", type(error).__name__, str(error))
        key, refusal = "", None
        try:
            check_files(work / OUTPUTS_NAME, self.mask.secrets)
            key = "" if failure else self.keep_outputs(work / OUTPUTS_NAME, record)
        except LabkitError as error:
            # The page must not stay that of the last successful run.
            n_cells, refusal = len(notebook.cells), error
            failure = failure or Failure(n_cells, n_cells, "", "", type(error).__name__, str(error))
        if failure:
            entry.outcome = "failed" if execution.outcome == "finished" else execution.outcome
        entry.peak_bytes = execution.peak_bytes
        self.done = StageRecord(
            stage=self.stage,
            page=path.stem,
            title=find_title(notebook),
            status="interrupted" if execution.is_interrupted else "failed" if failure else "finished",
            started=entry.at,
            seconds=round(execution.seconds, 3),
            headline=log.headline,
            run_id=record.run_id,
            run=entry.parent or entry.run,
            key=key,
            html=f"{path.stem}.html",
            cells=execution.cells if not failure else find_times(self.params.experiment, self.stage, self.sample_rows),
            peak_bytes=execution.peak_bytes,
            findings=log.findings,
            checks=log.checks,
            metrics=log.metrics,
        )
        sample = ""
        if self.sample_rows:
            sample = f"A sample of {format_count(self.sample_rows, 'row')}: for trying out, never published."
        note = " ".join(
            part for part in (sample, self.mask.describe_redacted().capitalize(), execution.cut.capitalize()) if part
        )
        notes = [note, *self.seen.untracked] if note else list(self.seen.untracked)
        if self.before:
            notes = [self.before.note(), *notes]
        if path.parent != paths.find_notebooks_dir():
            notes = [f"The notebook that ran is this experiment's own: {show_path(path)}.", *notes]
        if refusal:
            reason = self.mask.clean_text(str(refusal))
            notes = [f"The notebook ran to its end, but nothing that it wrote is used: {reason}.", *notes]
        pages = publish_page(self.done, work / path.name, self.params, sample_rows=self.sample_rows, notes=notes)
        self.conclude(record, pages, failure, refusal, self.keep_state(work))
        return self.done

    def collect_digests(self) -> dict[str, Any]:
        """Return the digests of all that the run was made from; those of what it wrote are tags, which are searched."""
        lock = provenance.collect().get("lock_sha256")
        inputs = self.entry.facts.get("inputs", {})
        return {"notebook": self.source.digest, "code": self.code, "lock": lock, "inputs": inputs}

    def conclude(
        self, record: tracking.Record, pages: Path, failure: Failure | None, refusal: LabkitError | None, advice: str
    ) -> None:
        """Log the page to MLflow, and raise the error of the notebook or of its rejected outputs."""
        assert self.execution
        path = self.source.path
        try:
            for ending in PAGE_ENDINGS:
                tracking.log_file(record.run_id, pages / f"{path.stem}{ending}", "report")
        except LostStoreError:
            # The failure of the notebook takes precedence.
            if not failure:
                raise
        if self.execution.is_interrupted:
            if self.resume and advice:
                self.resume.show(advice)
            raise KeyboardInterrupt
        if refusal and not self.execution.failure:
            raise refusal
        if failure:
            parameters = list_parameters(self.stage, self.params)
            raise make_error(path, self.execution, failure, pages, parameters, advice=advice)
        record.status = "FINISHED"

    def keep_outputs(self, outputs: Path, record: tracking.Record) -> str:
        """Put the stage's outputs in place, record their digests, and return the key of code, params and outputs."""
        declared = load_declarations(self.params.experiment)[self.stage]
        check_declared(outputs, declared.outputs, self.stage)
        target = find_target_dir(self.params.experiment, self.sample_rows)
        digests = compute_outputs(outputs, declared.outputs)
        place_outputs(outputs, target, stage=self.stage, experiment=self.params.experiment)
        self.entry.add_outputs(target, digests)
        reads = {} if self.sample_rows else keep_reads(self.params, self.stage, declared.outputs, self.seen)
        key = compute_key(add_reads(self.code, reads), self.params, declared.sections, digests)
        record.tags |= {f"labkit.output.{name}": digest for name, digest in digests.items()}
        record.tags["labkit.key"] = key
        return key

    def disown(self) -> None:
        """Mark the run as failed in the record beside the page."""
        if self.done and self.done.status == "finished":
            save_record(
                replace(self.done, status="failed", key=""), find_pages_dir(self.params.experiment, self.sample_rows)
            )


def open_page_log(experiment: str, page: str, sample_rows: int | None) -> TextIO:
    """Open the live log of a stage's run, beside its page."""
    return append.open_log(find_pages_dir(experiment, sample_rows) / f"{page}.log")


def find_times(experiment: str, stage: str, sample_rows: int | None) -> Sequence[float]:
    """Return how long each cell took when the stage last finished, in seconds."""
    last = load_records(find_pages_dir(experiment, sample_rows)).get(stage)
    return last.cells if last else ()


def flatten_section(params: Params, stage: str) -> dict[str, Any]:
    """Return the seed and the stage's own parameters by dotted name."""
    section = load_stage_section(params, stage).model_dump(mode="json")
    return {"seed": params.seed, **{f"{stage}.{key}": value for key, value in section.items()}}


def log_results(log: Log, record: tracking.Record, params: Params, *, peak_bytes: int, source: str) -> None:
    """Log what the notebook reported to its MLflow run, and each child to a child run."""
    tracking.log_values(record.run_id, metrics={**log.metrics, "labkit.peak_bytes": peak_bytes})
    for child in log.children:
        tracking.log_child(params, record.run_id, child, source=source)


@contextmanager
def make_work_dir(run: str) -> Iterator[Path]:
    """Yield an empty folder for this run only, and remove it afterwards."""
    work = paths.find_work_dir() / run
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def find_target_dir(experiment: str, sample_rows: int | None) -> Path:
    """Return the folder for the outputs of a run."""
    return paths.find_scratch_dir(experiment) if sample_rows else paths.find_data_dir(experiment)


def check_declared(outputs: Path, declared: Iterable[str], stage: str) -> None:
    """Raise an error for outputs that dvc.yaml does not declare: DVC could neither cache nor restore them.

    Raises
    ------
    StageError
        A file was written that is not declared, or a declared one was not written.
    """
    written = {path.relative_to(outputs).as_posix() for path in outputs.rglob("*") if path.is_file()}
    known = tuple(declared)
    foreign = sorted(name for name in written if not any(name == out or name.startswith(f"{out}/") for out in known))
    absent = sorted(out for out in known if not (outputs / out).exists())
    if foreign or absent:
        parts = [f"wrote {list_briefly(foreign)}, not declared"] if foreign else []
        parts += [f"did not write {list_briefly(absent)}"] if absent else []
        raise StageError(f"stage {stage} {' and '.join(parts)}: make `outs` in dvc.yaml and the notebook agree")
