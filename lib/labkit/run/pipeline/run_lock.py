"""One run at a time in a checkout: who works here, since when, and waiting for it.

The lock is the system's own (flock): it is free as soon as its holder has ended, whatever way. The file that carries
it stays and is never to be removed.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    experiment: str, *, report: Callable[[str], None], is_waiting: bool = True, command: str = ""
) -> Iterator[bool]:
    """Be the only run of this checkout for the time of the block; yields whether another one was waited for.

    Parameters
    ----------
    command
        What holds it, if that is no run, e.g. `labkit new`.
    report
        Called with one line that names the run this one waits for.
    is_waiting
        Refuse instead of waiting.

    Raises
    ------
    LabkitError
        Another run is under way and `is_waiting` is not set.
    """
    with open_lock(find_lock_path()) as handle:
        # Somebody who only looks holds it for a moment, and says nothing of himself.
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
        note_holder(handle, find_lock_path(), json.dumps(facts).encode())
        try:
            yield not is_ours
        finally:
            note_holder(handle, find_lock_path(), b"")


def find_holder() -> dict[str, Any] | None:
    """Return who works in this checkout now: `pid`, `experiment`, `since`; empty if it has not said so yet."""
    if not find_lock_path().exists():
        return None
    with open_lock(find_lock_path()) as handle:
        return None if take_lock(handle, is_waiting=False) else read_holder(handle)


def read_holder(handle: int) -> dict[str, Any]:
    """Return what the holder of a lock says of itself."""
    try:
        found: dict[str, Any] = json.loads(os.pread(handle, 4096, 0))
        is_alive = psutil.pid_exists(found["pid"])
    except (ValueError, TypeError, KeyError):
        return {}
    return found if is_alive else {}


def describe_holder(holder: dict[str, Any]) -> str:
    """Name a holder in words."""
    if not holder:
        return "another run of this checkout"
    what = (
        f"{command} {holder['experiment']}"
        if (command := holder.get("command"))
        else f"the run of {holder['experiment']}"
    )
    return f"{what} (process {holder['pid']}, since {holder['since']})"


def find_lock_path() -> Path:
    """Return the file that carries the lock."""
    return paths.find_root() / ".labkit" / LOCK_NAME
