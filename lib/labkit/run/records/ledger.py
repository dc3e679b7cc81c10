"""The ledger of runs: append-only lines of JSON in `.labkit/ledger.jsonl`, each flushed to disk before work continues.

Kinds of lines: `start` (who runs what), `opened` (the MLflow run), `plan` (why stages are stale), `output` (a file
that was written), `recorded` (the path of `record.json`) and `done` (how the run ended). A run without `done` has not
finished. The ledger is the authority; MLflow and the pages are views of it. Read next:
`labkit.run.records.ledger_index`, which finds runs in a long ledger, and `labkit.run.records.recovery`, which closes
the runs of killed processes.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from labkit import paths
from labkit.errors import DiskError, LabkitError, StageError
from labkit.run.records.mlflow_store import name_store
from labkit.storage.append import append_line
from labkit.storage.atomic import write_bytes
from labkit.storage.digests import compute_digest
from labkit.storage.disk import is_full

LEDGER_NAME = "ledger.jsonl"
SPARE_NAME = "ledger.spare"
SPARE_BYTES = 1_000_000
"""Disk space that is released when the disk is full, so that the end of a run can be recorded."""
LONGEST_REASON = 300
INTERACTIVE = "interactive"
"""Kind of an entry that records work by hand; see `labkit.run.notebook.interactive_run`."""
SWEEP = "sweep"
"""Kind of an entry that records a sweep; see `labkit.sweep.sweep`."""


@dataclass(frozen=True)
class Process:
    """One process of one machine, distinct from a later one with the same number.

    Attributes
    ----------
    started
        When it started, in clock ticks since the machine did.
    boot
        Identifies the boot of the machine.
    """

    pid: int
    started: float
    boot: str

    def is_alive(self) -> bool:
        """Return whether it is still running."""
        return find_process(self.pid) == self


def find_process(pid: int) -> Process | None:
    """Return the process with a process id, or None."""
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # The name, in brackets, may contain spaces and brackets.
            started = float(stat.read_text(errors="replace").rpartition(")")[2].split()[19])
        else:
            started = psutil.Process(pid).create_time()
    except (psutil.Error, OSError):
        return None
    return Process(pid, started, find_boot())


@cache
def find_boot() -> str:
    """Return the boot id of the machine, empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass
class Entry:
    """One run of a pipeline or of one stage.

    Attributes
    ----------
    run
        Its name in the ledger.
    stage
        None for a run of a whole pipeline.
    parent
        The pipeline run that a stage belongs to.
    store
        The MLflow store of the run; see `labkit.run.records.mlflow_store.name_store`.
    facts
        Its provenance; see `labkit.run.records.provenance`.
    tracked
        Id of its MLflow run.
    record
        Path and SHA-256 of the record of a pipeline run; see `labkit.run.records.run_record`.
    is_settled
        Whether its end is recorded in MLflow.
    """

    run: str
    experiment: str
    stage: str | None
    parent: str | None
    process: Process
    at: str
    store: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    tracked: str | None = None
    record: dict[str, str] | None = None
    is_settled: bool = True
    outcome: str | None = None
    reason: str = ""
    exit_code: int | None = None
    seconds: float | None = None
    peak_bytes: int = 0

    @property
    def is_interactive(self) -> bool:
        """Whether it records work by hand in a notebook, not a run of the pipeline."""
        return self.facts.get("kind") == INTERACTIVE

    @property
    def is_apart(self) -> bool:
        """Whether it is no run of the pipeline: work by hand, or a sweep."""
        return self.facts.get("kind") in (INTERACTIVE, SWEEP)

    @property
    def is_open(self) -> bool:
        """Whether the ledger has no end of it."""
        return self.outcome is None

    def open_tracked(self, tracked: str) -> None:
        """Record the id of the MLflow run."""
        self.tracked, self.is_settled = tracked, False
        append("opened", run=self.run, tracked=tracked)

    def plan(self, reasons: Mapping[str, list[str]]) -> None:
        """Record why stages are stale."""
        self.reasons = dict(reasons)
        append("plan", run=self.run, reasons=self.reasons)

    def note_resumed(self, resumed: Mapping[str, Any]) -> None:
        """Record at which cell of which earlier run it continues, and the folder; only that if it starts again."""
        self.facts["resumed"] = dict(resumed)
        append("resumed", run=self.run, resumed=self.facts["resumed"])

    def note_record(self, path: Path, digest: str) -> None:
        """Record the path and digest of `record.json`."""
        self.record = {"path": os.path.relpath(path, paths.find_root()), "sha256": digest}
        append("recorded", run=self.run, **self.record)

    def add_outputs(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Record the outputs that were put in place in a folder."""
        for name, digest in digests.items():
            size, place = compute_size(folder / name), os.path.relpath(folder / name, paths.find_root())
            self.outputs.append({"path": place, "sha256": digest, "bytes": size})
            append("output", run=self.run, **self.outputs[-1])

    def close(self, outcome: str, exit_code: int | None, reason: str = "") -> None:
        """Record how it ended."""
        self.outcome, self.exit_code, self.reason = outcome, exit_code, reason[:LONGEST_REASON]
        append(
            "done",
            run=self.run,
            outcome=outcome,
            reason=self.reason,
            exit_code=exit_code,
            seconds=self.seconds,
            peak_bytes=self.peak_bytes,
            is_settled=self.is_settled,
            at=make_timestamp(),
        )


@contextmanager
def open_entry(
    experiment: str, stage: str | None = None, *, parent: str | None = None, facts: Mapping[str, Any]
) -> Iterator[Entry]:
    """Write `start`, yield the entry during the block, and write `done` with the outcome of the block.

    The block may set the outcome itself, e.g. `died` or `timed out`, which cannot be derived from an error.
    """
    process = find_process(os.getpid())
    assert process
    entry = Entry(
        make_run_name(experiment), experiment, stage, parent, process, make_timestamp(), name_store(), dict(facts)
    )
    reserve_space()
    append(
        "start",
        run=entry.run,
        experiment=experiment,
        stage=stage,
        parent=parent,
        pid=process.pid,
        boot=process.boot,
        process_started=process.started,
        at=entry.at,
        store=entry.store,
        facts=entry.facts,
    )
    started = time.monotonic()
    outcome, code, reason = "finished", 0, ""
    try:
        yield entry
    except BaseException as error:
        outcome, code = classify_error(error)
        outcome = entry.outcome or outcome
        reason = find_reason(error)
        raise
    finally:
        entry.seconds = round(time.monotonic() - started, 3)
        entry.close(outcome, code, reason)


def classify_error(error: BaseException) -> tuple[str, int]:
    """Return the outcome and exit code of a run that ended with an error."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    return "failed", error.exit_code if isinstance(error, LabkitError) else 1


def find_reason(error: BaseException) -> str:
    """Return the first line of an error."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def make_run_name(experiment: str) -> str:
    """Return a unique name for a run, whatever the time zone and the clock."""
    return f"{experiment}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def make_timestamp() -> str:
    """Return the current time in UTC as an ISO 8601 string."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def compute_size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def collect_digests(names: list[str]) -> dict[str, str]:
    """Return the digest of each file or folder of the checkout that exists."""
    root = paths.find_root()
    return {name: compute_digest(root / name) for name in names if (root / name).exists()}


def find_ledger_path() -> Path:
    """Return the path of the ledger, whether or not it exists."""
    return paths.find_root() / ".labkit" / LEDGER_NAME


def append(kind: str, **content: Any) -> None:
    """Append one line and flush it to disk.

    Raises
    ------
    StageError
        The line cannot be written.
    """
    line = json.dumps({"kind": kind, **content}, ensure_ascii=False)
    path = find_ledger_path()
    try:
        try:
            append_line(path, line)
        except DiskError as error:
            if not is_full(error) or not release_space():
                raise
            append_line(path, line)
    except DiskError as error:
        raise StageError(f"what ran cannot be recorded: {error}") from error


def reserve_space() -> None:
    """Reserve disk space for recording the end of this run."""
    spare = find_ledger_path().with_name(SPARE_NAME)
    if spare.exists():
        return
    with suppress(DiskError):
        write_bytes(spare, bytes(SPARE_BYTES))


def release_space() -> bool:
    """Release the reserved disk space; return whether there was any."""
    try:
        find_ledger_path().with_name(SPARE_NAME).unlink()
    except OSError:
        return False
    return True


def find_run_folder(run: str) -> Path:
    """Return the folder with the copies of what was recorded of a run."""
    return paths.find_root() / ".labkit" / "runs" / run


def load_entries(*, with_interactive: bool = False) -> list[Entry]:
    """Return all runs of the pipeline in the order in which they started; lines damaged by a crash are skipped.

    Parameters
    ----------
    with_interactive
        Return interactive runs and sweeps as well, which are no runs of the pipeline.
    """
    path = find_ledger_path()
    entries: dict[str, Entry] = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            read_line(json.loads(line), entries)
    return [entry for entry in entries.values() if with_interactive or not entry.is_apart]


def read_line(content: dict[str, Any], entries: dict[str, Entry]) -> None:
    """Apply one line to the entries."""
    kind, run = content.pop("kind"), content.pop("run")
    if kind == "start":
        process = Process(content["pid"], content["process_started"], content["boot"])
        place = (content["experiment"], content["stage"], content["parent"])
        entries.setdefault(run, Entry(run, *place, process, content["at"], content["store"], content["facts"]))
    elif kind == "opened":
        entries[run].tracked, entries[run].is_settled = content["tracked"], False
    elif kind == "plan":
        entries[run].reasons = content["reasons"]
    elif kind == "output":
        entries[run].outputs.append(content)
    elif kind == "recorded":
        entries[run].record = content
    elif kind == "resumed":
        entries[run].facts["resumed"] = content["resumed"]
    elif kind == "settled":
        entries[run].is_settled = True
    elif kind == "done" and entries[run].is_open:
        for name in ("outcome", "reason", "exit_code", "seconds", "peak_bytes", "is_settled"):
            setattr(entries[run], name, content[name])
