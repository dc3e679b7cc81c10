"""The state of one run of an experiment: finished stages, records and the error.

Runs one stage at a time. Which stages, and in which order: `labkit.run.pipeline.experiment_run`.
"""

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit import paths
from labkit.errors import LabkitError, StageError
from labkit.params.experiment import Params
from labkit.params.override import describe_edit
from labkit.paths import show_path
from labkit.run.dvc_yaml import FINGERPRINT, NAMED_COLUMNS, load_declarations
from labkit.run.kernels.session import STAGE_MODULE, TRACKING_MODULE, Kernels
from labkit.run.notebook.source import Snapshot
from labkit.run.pipeline import dvc_repo, stage_client
from labkit.run.pipeline.progress import Line, Progress
from labkit.run.pipeline.run_summary import (
    describe_parent,
    find_raw_data,
    load_headline,
    make_sample_tags,
    name_run,
)
from labkit.run.records import ledger, mlflow_store, provenance
from labkit.run.records.ledger import Entry
from labkit.run.records.stage_record import compute_outputs, load_records
from labkit.secrets.redaction import Mask

if TYPE_CHECKING:
    from labkit.run.pipeline.resume import Resume
    from labkit.run.records.run_record import RunRecord
    from labkit.run.records.tracking import Record

PlainStage = Callable[[Params, int | None], str]
"""A stage without a notebook: called with the params and the rows of a sample, returns a headline."""


@dataclass
class Work:
    """One run of an experiment: the stages that have run so far, and the error.

    Attributes
    ----------
    is_resumed
        Whether to continue a stage that failed at the cell that failed; None: keep no state for that either.
    """

    params: Params
    plain: Mapping[str, PlainStage]
    progress: Progress
    parents: ExitStack
    snapshot: Snapshot
    secrets: Mapping[str, str]
    kernels: Kernels
    sample_rows: int | None = None
    is_alone: bool = False
    is_resumed: bool | None = None
    is_stopped: bool = False
    entry: Entry | None = None
    parent: "Record | None" = None
    ran: dict[str, Line] = field(default_factory=dict)
    error: LabkitError | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    record: "RunRecord | None" = None
    names: Sequence[str] = ()
    resume: "Resume | None" = None

    def perform(self, stage: str) -> str:
        """Run one stage and return its headline."""
        if stage == FINGERPRINT:
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
        """Run one stage and record it in the ledger."""
        parent = self.entry.run if self.entry else None
        facts = provenance.collect_stage(self.params, stage, self.sample_rows)
        if stage in self.snapshot:
            facts["notebook_sha256"] = self.snapshot[stage].digest
        with ledger.open_entry(self.params.experiment, stage, parent=parent, facts=facts) as entry:
            self.entries[stage] = entry
            try:
                return self.perform_plain(stage, entry) if stage in self.plain else self.perform_notebook(stage, entry)
            except Exception as error:
                cleaned = Mask(self.secrets).clean_text(str(error))
                if cleaned != str(error) and self.secrets:
                    # Without the cause, which would show the secret.
                    raise (type(error) if isinstance(error, LabkitError) else StageError)(cleaned) from None
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    ledger.release_space()
                    raise StageError(
                        f"stage {stage} failed: disk full: {error}: free disk space, then run again"
                    ) from error
                raise

    def check_params(self) -> None:
        """Raise an error if the params file has changed since the run began."""
        if changed := describe_edit(self.params):
            raise StageError(changed)

    def perform_plain(self, stage: str, entry: Entry) -> str:
        """Run a stage without a notebook; all but `publish`, which runs every time, open the parent run."""
        if stage == dvc_repo.PUBLISH:
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
        self.plain[NAMED_COLUMNS](self.params, self.sample_rows)
        # Imported here, so that a run without stale stages needs neither MLflow nor papermill.
        self.kernels.wait_for(STAGE_MODULE)
        from labkit.run.pipeline import stage_run as notebook_stage
        from labkit.run.pipeline.resume import Resume

        # Only forked kernels can be forked again.
        if self.resume is None and self.is_resumed is not None and not self.kernels.is_cold:
            self.resume = Resume(self.is_resumed, self.progress.show)
        source, mask = self.snapshot[stage], Mask(self.secrets)
        is_top = self.is_alone and paths.get_parent_run_id() is None
        record = self.prepare_record(entry) if is_top else None
        try:
            done = notebook_stage.run_notebook_stage(
                stage,
                self.params,
                source=source,
                progress=self.progress,
                entry=entry,
                parent_id=paths.get_parent_run_id() if self.is_alone else self.open_parent(),
                mask=mask,
                kind=notebook_stage.RunKind(self.sample_rows, self.resume),
            )
        finally:
            # Not before the first notebook, which would have to wait for these imports.
            if dvc_repo.PUBLISH in self.names:
                self.kernels.begin_importing(*self.kernels.later)
            if warning := mask.describe_redacted():
                self.progress.show(f"warning: {stage}: {warning}")
            if record and entry.tracked:
                record.begin(entry.tracked)
                self.record = record
            if not source.is_current:
                self.progress.show(
                    f"warning: {show_path(source.path)} was changed during the run, which used the version from its "
                    f"start; to run the new one: labkit run {self.params.experiment} --force {stage}"
                )
        return done.headline

    def open_parent(self) -> str:
        """Open the parent run unless it is open, and return its id."""
        self.kernels.wait_for(TRACKING_MODULE)
        from labkit.run.records import tracking

        if self.parent is None:
            assert self.entry
            kind = "sample" if self.sample_rows else "pipeline"
            self.parent = self.parents.enter_context(
                tracking.open_run(
                    self.params,
                    name_run(self.entry.run, self.sample_rows),
                    parent_id=None,
                    tags={"labkit.kind": kind, **make_sample_tags(self.sample_rows)},
                    entry=self.entry,
                )
            )
            self.record = self.prepare_record(self.entry)
            self.record.begin(self.parent.run_id)
        return self.parent.run_id

    def prepare_record(self, entry: Entry) -> "RunRecord":
        """Collect the provenance of a run, and warn about what cannot be recorded."""
        from labkit.run.records.run_record import RunRecord

        record = RunRecord(entry, self.params, Mask(self.secrets), self.entries, self.names)
        for warning in record.prepare():
            self.progress.show(warning)
        return record

    @contextmanager
    def keep_record(self) -> Iterator[None]:
        """Record how the block ended if a parent run was opened in it."""
        try:
            yield
        except BaseException as error:
            self.describe_parent()
            if self.record:
                self.record.finish_failed(error)
            raise
        self.describe_parent()
        if self.record:
            self.record.finish("finished")
            self.complete_parent(self.record)

    def describe_parent(self) -> None:
        """Let the parent run show what the run was made with and what came of it so far."""
        if self.parent and self.entry:
            changed = self.entry.facts.get("params", {})
            describe_parent(self.parent, self.params, changed=changed, lines=self.ran.values())

    def complete_parent(self, record: "RunRecord") -> None:
        """Let the parent run of a finished run show the headline metrics and the raw data."""
        if self.parent:
            from labkit.run.records import tracking

            experiment = self.params.experiment
            folder = paths.find_scratch_dir(experiment) if self.sample_rows else paths.find_data_dir(experiment)
            self.parent.metrics |= load_headline(experiment, self.names, folder)
            for path, digest in find_raw_data(record.content["stages"]).items():
                tracking.log_dataset(self.parent.run_id, experiment, path=path, digest=digest)

    def handle_request(self, stage: str, experiment: str) -> stage_client.Reply:
        """Run the stage that a stage process requests."""
        if experiment != self.params.experiment:
            return stage_client.Reply(2, f"this run is of {self.params.experiment}, not of {experiment}")
        try:
            self.perform(stage)
        except LabkitError as error:
            self.error = error
            return stage_client.Reply(error.exit_code, str(error))
        return stage_client.Reply(0)

    def check_experiment(self) -> None:
        """Raise an error for an experiment that was deleted in MLflow, before anything starts.

        Raises
        ------
        TrackingError
            It was deleted, or its artifacts cannot be stored.
        """
        if not mlflow_store.check_embedded_experiment(self.params.experiment):
            self.kernels.wait_for(TRACKING_MODULE)
            from labkit.run.records import tracking_client

            tracking_client.check_experiment(self.params.experiment)
