"""The lock that allows one run at a time in a checkout: its holder, and waiting for it.

The lock is one of the operating system (flock): it is released when its holder ends, in whatever way. The lock file
stays and must never be removed.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from labkit import paths
from labkit.errors import LabkitError
from labkit.run.records.ledger import make_timestamp
from labkit.storage.locks import note_holder, open_lock, take_lock

LOCK_NAME = "run.lock"
N_TRIES = 10
RETRY_SECONDS = 0.05


@contextmanager
def hold_checkout(
    experiment: str,
    *,
    report: Callable[[str], None],
    is_waiting: bool = True,
    command: str = "",
    path: Path | None = None,
) -> Iterator[bool]:
    """Hold the lock of the checkout during the block; yields whether another run was waited for.

    Parameters
    ----------
    command
        The command that holds it, if it is not a run, e.g. `labkit new`.
    report
        Called with one line that names the run this one waits for.
    is_waiting
        Raise an error instead of waiting if False.
    path
        Lock file of a part of the checkout, to hold that instead.

    Raises
    ------
    LabkitError
        Another run is under way and `is_waiting` is not set.
    """
    path = path or find_lock_path()
    with open_lock(path) as handle:
        # A process that only looks for the holder has the lock for a moment, without writing its own name.
        for _ in range(N_TRIES):
            if is_ours := take_lock(handle, is_waiting=False):
                break
            if read_holder(handle):
                break
            time.sleep(RETRY_SECONDS)
        if not is_ours:
            if not is_waiting:
                raise LabkitError(f"{describe_holder(read_holder(handle))} is under way: wait for it, or end it")
            report(f"waiting for {describe_holder(read_holder(handle))} …")
            take_lock(handle)
        facts = {"pid": os.getpid(), "experiment": experiment, "since": make_timestamp(), "command": command}
        note_holder(handle, path, json.dumps(facts).encode())
        try:
            yield not is_ours
        finally:
            note_holder(handle, path, b"")


def find_holder() -> dict[str, Any] | None:
    """Return the holder of the lock, `pid`, `experiment` and `since`, empty if not written yet; None if it is free."""
    if not find_lock_path().exists():
        return None
    with open_lock(find_lock_path()) as handle:
        return None if take_lock(handle, is_waiting=False) else read_holder(handle)


def read_holder(handle: int) -> dict[str, Any]:
    """Return what the holder of the lock wrote into the lock file."""
    try:
        found: dict[str, Any] = json.loads(os.pread(handle, 4096, 0))
        is_alive = psutil.pid_exists(found["pid"])
    except (ValueError, TypeError, KeyError):
        return {}
    return found if is_alive else {}


def describe_holder(holder: dict[str, Any]) -> str:
    """Return a phrase that names a holder."""
    if not holder:
        return "another run of this checkout"
    what = (
        f"{command} {holder['experiment']}"
        if (command := holder.get("command"))
        else f"the run of {holder['experiment']}"
    )
    since = datetime.fromisoformat(holder["since"]).astimezone()
    return f"{what} (process {holder['pid']}, since {since:%Y-%m-%d %H:%M})"


def find_lock_path() -> Path:
    """Return the path of the lock file."""
    return paths.find_root() / ".labkit" / LOCK_NAME
