"""Closes the runs of killed processes, in the ledger, in MLflow and on disk. Called by the next labkit command.

A run whose process is still alive is never touched.
"""

import fnmatch
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from labkit import paths
from labkit.errors import LabkitError
from labkit.run.records import ledger, ledger_index, mlflow_store
from labkit.run.records.ledger import Entry
from labkit.storage.atomic import PART, find_writer
from labkit.storage.locks import hold_lock

GONE = "process gone"
SWEPT = ("data", "reports", "params", ".labkit", ".dvc/tmp")
OLD_SECONDS = 3600
"""Age at which a leftover of an unknown process is removed if nothing is running."""


def reconcile() -> list[Entry]:
    """Close the runs whose processes have ended, and return them.

    If the MLflow server cannot be reached, the runs are closed there the next time.
    """
    if not any(map(needs_closing, ledger_index.find_unfinished())):
        return []
    with hold_lock(ledger.find_ledger_path().with_name("reconcile.lock")):
        entries = ledger_index.find_unfinished()
        gone = [entry for entry in entries if entry.is_open and not entry.process.is_alive()]
        if gone:
            remove_unfinished(gone)
        for entry in gone:
            entry.is_settled = False
            entry.close("killed", None, GONE)
        with suppress(LabkitError):
            for entry in entries:
                if not entry.is_open and not entry.is_settled and is_here(entry):
                    settle(entry)
    return gone


def needs_closing(entry: Entry) -> bool:
    """Return whether a run has to be closed, in the ledger or in MLflow."""
    if entry.is_open:
        return not entry.process.is_alive()
    return not entry.is_settled and is_here(entry)


def is_here(entry: Entry) -> bool:
    """Return whether a run was recorded in the current store."""
    return mlflow_store.is_store(entry.store)


def settle(entry: Entry) -> None:
    """Close a run in MLflow, if it is recorded there."""
    if mlflow_store.check_existing_store():
        # Imported here, so that MLflow is not loaded if there is nothing to close.
        from labkit.run.records import tracking

        tracking.close_left(entry)
    ledger.append("settled", run=entry.run)


def remove_unfinished(gone: Iterable[Entry]) -> None:
    """Remove the work folders and temporary files of ended runs, those just closed and earlier ones.

    Other runs may start and end meanwhile.
    """
    # Listed first: a run is in the ledger before it has a folder, so each run that has one by now is found there.
    folders = list(paths.find_work_dir().iterdir())
    running = [one for one in ledger_index.find_unfinished() if one.is_open and one.process.is_alive()]
    # A run that continues an earlier one works in its folder.
    alive = {name for one in running for name in (one.run, one.facts.get("resumed", {}).get("folder"))}
    known = {name.run for name in ledger_index.list_recorded_runs()}
    for folder in folders:
        if folder.name not in alive and (folder.name in known or (not alive and is_old(folder))):
            shutil.rmtree(folder, ignore_errors=True)
    root = paths.find_root()
    places = [*root.glob(f".*{PART}"), *(path for name in SWEPT for path in find_below(root / name, f".*{PART}"))]
    left = [path for path in places if not is_being_written(path)]
    for path in left + [path for entry in gone for path in list_uploads(entry)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def is_old(path: Path) -> bool:
    """Return whether a file or folder has not changed for long; not if it was removed meanwhile."""
    try:
        return time.time() - path.stat().st_mtime > OLD_SECONDS
    except OSError:
        return False


def find_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files and folders of a name at any depth, however many folders disappear meanwhile."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in fnmatch.filter([*folders, *files], pattern))


def list_uploads(entry: Entry) -> list[Path]:
    """Return the temporary files of artifacts that MLflow has not finished copying."""
    if not entry.tracked:
        return []
    folders = (paths.find_root() / "mlruns").glob(f"*/{entry.tracked}/artifacts")
    return [path for folder in folders for path in find_below(folder, ".artifact.uploading.*")]


def is_being_written(path: Path) -> bool:
    """Return whether the process named by a temporary file is alive; without a name, whether the file is new."""
    writer = find_writer(path)
    try:
        age = time.time() - path.lstat().st_mtime
        return psutil.pid_exists(writer) if writer is not None else age < OLD_SECONDS
    except OSError:
        return True


def close_gone(report: Callable[[str], None]) -> None:
    """Close the records of killed runs, and report each run.

    Parameters
    ----------
    report
        Called with one line for each run that was closed.

    Raises
    ------
    StageError, DiskError
        The store cannot be read or written.
    """
    for line in describe_closed(reconcile()):
        report(line)


def describe_closed(gone: Iterable[Entry]) -> list[str]:
    """Return one line about each run that was closed."""
    return [
        f"{entry.experiment}{' ' + entry.stage if entry.stage else ''}: a run of {entry.at} was killed "
        f"(process {entry.process.pid} is gone); it is closed as such now"
        for entry in gone
        if entry.parent is None
    ]
