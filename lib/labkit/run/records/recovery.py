"""Closing what a killed process left open: in the ledger, in MLflow, on the disk. Called by the next labkit command.

A run of a process that still lives is never touched.
"""

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from labkit import paths
from labkit.errors import LabkitError
from labkit.run.records import ledger, mlflow_store
from labkit.run.records.ledger import Entry
from labkit.storage.atomic import PART, find_writer
from labkit.storage.locks import hold_lock

GONE = "process gone"
SWEPT = ("data", "reports", "params", ".labkit")
OLD_SECONDS = 3600
"""A left-over that does not say whose it is goes when it is this old and nothing runs."""


def reconcile() -> list[Entry]:
    """Close the runs whose processes are gone, and return them.

    What MLflow cannot be told now, because its server is away, is told the next time.
    """
    if not any(map(needs_closing, ledger.load_entries())):
        return []
    with hold_lock(ledger.find_ledger_path().with_name("reconcile.lock")):
        entries = ledger.load_entries()
        gone = [entry for entry in entries if entry.is_open and not entry.process.is_alive()]
        if gone:
            remove_unfinished(entries, gone)
        for entry in gone:
            entry.is_settled = False
            entry.close("killed", None, GONE)
        with suppress(LabkitError):
            for entry in entries:
                if not entry.is_open and not entry.is_settled and is_here(entry):
                    settle(entry)
    return gone


def needs_closing(entry: Entry) -> bool:
    """Return whether a run has not been closed everywhere and nobody is about to do it."""
    if entry.is_open:
        return not entry.process.is_alive()
    return not entry.is_settled and is_here(entry)


def is_here(entry: Entry) -> bool:
    """Return whether a run was recorded in the store that is used now."""
    return mlflow_store.is_store(entry.store)


def settle(entry: Entry) -> None:
    """Tell MLflow how a run ended, if it knows of it."""
    uri = paths.get_tracking_uri()
    file = paths.find_sqlite_file(uri)
    if file is None or file.exists():
        mlflow_store.check_store(uri)
        # Imported on need: with nothing to close, MLflow is not.
        from labkit.run.records import tracking

        tracking.close_left(entry)
    ledger.append("settled", run=entry.run)


def remove_unfinished(entries: Iterable[Entry], gone: Iterable[Entry]) -> None:
    """Remove the work folders and half-written files that dead runs left, those `gone` just now and earlier ones."""
    alive = {entry.run for entry in entries if entry.is_open and entry.process.is_alive()}
    known = {entry.run for entry in entries}
    for folder in paths.find_work_dir().iterdir():
        is_old = time.time() - folder.stat().st_mtime > OLD_SECONDS
        if folder.name not in alive and (folder.name in known or (is_old and not alive)):
            shutil.rmtree(folder, ignore_errors=True)
    root = paths.find_root()
    pattern = f".*{PART}"
    places = [*root.glob(pattern), *(path for name in SWEPT for path in (root / name).rglob(pattern))]
    left = [path for path in places if not is_being_written(path)]
    for path in left + [path for entry in gone for path in list_uploads(entry)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def list_uploads(entry: Entry) -> list[Path]:
    """Return the artifacts of a run that MLflow has half copied to this disk."""
    if not entry.tracked:
        return []
    return list((paths.find_root() / "mlruns").glob(f"*/{entry.tracked}/artifacts/**/.artifact.uploading.*"))


def is_being_written(path: Path) -> bool:
    """Return whether the process named by something half-written still lives; what names none counts while new."""
    writer = find_writer(path)
    try:
        age = time.time() - path.lstat().st_mtime
        return psutil.pid_exists(writer) if writer is not None else age < OLD_SECONDS
    except OSError:
        return True


def describe_closed(gone: Iterable[Entry]) -> list[str]:
    """Say in one line each which runs were closed."""
    return [
        f"{entry.experiment}{' ' + entry.stage if entry.stage else ''}: a run of {entry.at} was killed "
        f"(process {entry.process.pid} is gone); it is closed as such now"
        for entry in gone
        if entry.parent is None
    ]
