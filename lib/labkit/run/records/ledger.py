"""The record of what ran: append-only lines of JSON in `.labkit/ledger.jsonl`, each on the disk before work goes on.

`start` says who does what, `opened` where MLflow keeps it, `plan` why stages are stale, `output` what was written,
`recorded` where `record.json` is, `done` how it ended. What has no `done` never happened. All else, MLflow and the
pages, is a view. Read next: `labkit.run.records.recovery`, which closes what a killed process left open.
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
"""Room that is given back when the disk is full, so that the end of a run can be written down."""
LONGEST_REASON = 300


@dataclass(frozen=True)
class Process:
    """One process of one machine, told from a later one with the same number.

    Attributes
    ----------
    started
        When it started, in clock ticks since the machine did.
    boot
        Which start of the machine.
    """

    pid: int
    started: float
    boot: str

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return find_process(self.pid) == self


def find_process(pid: int) -> Process | None:
    """Return the process with a number, None if there is none."""
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            # The name, in brackets, may hold anything.
            started = float(stat.read_text(errors="replace").rpartition(")")[2].split()[19])
        else:
            started = psutil.Process(pid).create_time()
    except (psutil.Error, OSError):
        return None
    return Process(pid, started, find_boot())


@cache
def find_boot() -> str:
    """Return what tells this start of the machine from others, empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass
class Entry:
    """What the ledger says of one run of a pipeline or of one stage.

    Attributes
    ----------
    run
        Its name in the ledger.
    stage
        None for a run of a whole pipeline.
    parent
        The pipeline run that a stage belongs to.
    store
        The MLflow store at the time; see `labkit.run.records.mlflow_store.name_store`.
    facts
        What it was made of; see `labkit.run.records.provenance`.
    tracked
        MLflow's name for it.
    record
        Path and SHA-256 of the record that was kept of a pipeline run; see `labkit.run.records.run_record`.
    is_settled
        Whether MLflow has been told how it ended.
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
    def is_open(self) -> bool:
        """Whether nothing says that it ended."""
        return self.outcome is None

    def open_tracked(self, tracked: str) -> None:
        """Write down the MLflow run."""
        self.tracked, self.is_settled = tracked, False
        append("opened", run=self.run, tracked=tracked)

    def plan(self, reasons: Mapping[str, list[str]]) -> None:
        """Write down why stages are stale."""
        self.reasons = dict(reasons)
        append("plan", run=self.run, reasons=self.reasons)

    def note_record(self, path: Path, digest: str) -> None:
        """Write down what was recorded of the run."""
        self.record = {"path": os.path.relpath(path, paths.find_root()), "sha256": digest}
        append("recorded", run=self.run, **self.record)

    def add_outputs(self, folder: Path, digests: Mapping[str, str]) -> None:
        """Write down what was put in place in a folder."""
        for name, digest in digests.items():
            size, place = compute_size(folder / name), os.path.relpath(folder / name, paths.find_root())
            self.outputs.append({"path": place, "sha256": digest, "bytes": size})
            append("output", run=self.run, **self.outputs[-1])

    def close(self, outcome: str, exit_code: int | None, reason: str = "") -> None:
        """Write down how it ended."""
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
    """Write `start`, yield the entry for the time of the block, and write `done` with the block's own ending.

    The block may set the outcome beforehand, as `died` or `timed out`, which an error alone does not tell.
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
    """Return outcome and exit code of what an error ended."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    return "failed", error.exit_code if isinstance(error, LabkitError) else 1


def find_reason(error: BaseException) -> str:
    """Return the first line of an error."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def make_run_name(experiment: str) -> str:
    """Return a name for a run that no other has, whatever the time zone and the clock."""
    return f"{experiment}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def make_timestamp() -> str:
    """Return the time in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def compute_size(path: Path) -> int:
    """Return the bytes of a file, or of a folder's files."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def collect_digests(names: list[str]) -> dict[str, str]:
    """Return the digest of each of these files and folders of the checkout that is there."""
    root = paths.find_root()
    return {name: compute_digest(root / name) for name in names if (root / name).exists()}


def find_ledger_path() -> Path:
    """Return the ledger's file, whether or not it exists."""
    return paths.find_root() / ".labkit" / LEDGER_NAME


def append(kind: str, **content: Any) -> None:
    """Add one line, and return when it is on the disk.

    Raises
    ------
    StageError
        It cannot be written.
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
    """Set room aside for the end of this run; without it, a full disk is met now and not later."""
    spare = find_ledger_path().with_name(SPARE_NAME)
    if spare.exists():
        return
    with suppress(DiskError):
        write_bytes(spare, bytes(SPARE_BYTES))


def release_space() -> bool:
    """Give the room back; return whether there was any."""
    try:
        find_ledger_path().with_name(SPARE_NAME).unlink()
    except OSError:
        return False
    return True


def load_entries() -> list[Entry]:
    """Return all runs in the order in which they started; lines that a crash tore are passed over."""
    path = find_ledger_path()
    entries: dict[str, Entry] = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            read_line(json.loads(line), entries)
    return list(entries.values())


def read_line(content: dict[str, Any], entries: dict[str, Entry]) -> None:
    """Take one line in."""
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
    elif kind == "settled":
        entries[run].is_settled = True
    elif kind == "done" and entries[run].is_open:
        for name in ("outcome", "reason", "exit_code", "seconds", "peak_bytes", "is_settled"):
            setattr(entries[run], name, content[name])
