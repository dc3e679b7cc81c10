"""The locks of runs: one run of an experiment at a time, and beside commands that change the whole checkout none.

A run holds the lock of its experiment, and shares the lock of the checkout with the runs of other experiments. What
these use together is locked for moments only: DVC in `labkit.run.pipeline.dvc_sharing`, records and pages where they
are written. The locks are those of the operating system (flock): they are released when their holder ends, in whatever
way. Lock files stay and must never be removed.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
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

Holder = dict[str, Any]
"""Who holds a lock: `pid`, `experiment`, `since` and `command`, which is empty for a run; empty if not known yet."""


@contextmanager
def hold_experiment(
    experiment: str, *, report: Callable[[str], None], is_waiting: bool = True, command: str = ""
) -> Iterator[bool]:
    """Hold the lock of an experiment during the block, beside those of other experiments.

    Yields whether another run of the experiment, or a command that holds the whole checkout, was waited for.

    Parameters
    ----------
    command
        The command that holds it, if it is not a run, e.g. `labkit sweep`.
    report
        Called with one line that names the run this one waits for.
    is_waiting
        Raise an error instead of waiting if False.

    Raises
    ------
    LabkitError
        Another run of the experiment is under way and `is_waiting` is not set.
    """
    own = hold(find_lock_path(experiment), experiment, report=report, is_waiting=is_waiting, command=command)
    with own as has_waited, open_lock(find_lock_path()) as whole:

        def find_others() -> list[Holder]:
            return [holder] if (holder := read_holder(whole)) else []

        has_waited |= wait_for(whole, find_others, report=report, is_waiting=is_waiting, is_shared=True)
        yield has_waited


@contextmanager
def hold_checkout(
    what: str, *, report: Callable[[str], None], is_waiting: bool = True, command: str = ""
) -> Iterator[bool]:
    """Hold the whole checkout during the block, with no run beside it; yields whether one was waited for.

    Parameters
    ----------
    what
        What the command is about, such as the name of an experiment.
    command, report, is_waiting
        See `hold_experiment`.

    Raises
    ------
    LabkitError
        Something is under way in the checkout and `is_waiting` is not set.
    """
    whole = find_lock_path()
    with hold(
        whole, what, report=report, is_waiting=is_waiting, command=command, find_others=find_holders
    ) as has_waited:
        yield has_waited


@contextmanager
def hold(
    path: Path,
    what: str,
    *,
    report: Callable[[str], None],
    is_waiting: bool = True,
    command: str = "",
    find_others: Callable[[], list[Holder]] | None = None,
) -> Iterator[bool]:
    """Hold one lock file alone during the block; yields whether another holder was waited for.

    Parameters
    ----------
    what, command, report, is_waiting
        See `hold_checkout`.
    find_others
        Returns who holds it, if that is not in the file.
    """
    with open_lock(path) as handle:

        def find_noted() -> list[Holder]:
            return [holder] if (holder := read_holder(handle)) else []

        has_waited = wait_for(handle, find_others or find_noted, report=report, is_waiting=is_waiting)
        facts = {"pid": os.getpid(), "experiment": what, "since": make_timestamp(), "command": command}
        note_holder(handle, path, json.dumps(facts).encode())
        try:
            yield has_waited
        finally:
            note_holder(handle, path, b"")


def wait_for(
    handle: int,
    find_others: Callable[[], list[Holder]],
    *,
    report: Callable[[str], None],
    is_waiting: bool,
    is_shared: bool = False,
) -> bool:
    """Take the lock of an open file; return whether another holder was waited for."""
    # A process that only looks for the holder has the lock for a moment, without writing its own name.
    for _ in range(N_TRIES):
        if take_lock(handle, is_waiting=False, is_shared=is_shared):
            return False
        if find_others():
            break
        time.sleep(RETRY_SECONDS)
    others = find_others()
    if not is_waiting:
        them = (
            "are under way: wait for them, or end them" if len(others) > 1 else "is under way: wait for it, or end it"
        )
        raise LabkitError(f"{describe_holders(others)} {them}")
    report(f"waiting for {describe_holders(others)} …")
    take_lock(handle, is_shared=is_shared)
    return True


def find_holders() -> list[Holder]:
    """Return who works in the checkout: who holds the whole of it, or else an experiment each."""
    experiments = sorted(find_lock_path().parent.glob(find_lock_path("*").name))
    found = map(look_for_holder, (find_lock_path(), *experiments))
    return [holder for holder in found if holder is not None]


def find_holder(experiment: str) -> Holder | None:
    """Return who holds an experiment, or the whole checkout; None if a run of it could start."""
    holder = look_for_holder(find_lock_path(experiment))
    return look_for_holder(find_lock_path()) if holder is None else holder


def look_for_holder(path: Path) -> Holder | None:
    """Return who holds a lock file alone, empty if not written yet; None if nobody does."""
    if not path.exists():
        return None
    with open_lock(path) as handle:
        return None if take_lock(handle, is_waiting=False, is_shared=True) else read_holder(handle)


def read_holder(handle: int) -> Holder:
    """Return what the holder of the lock wrote into the lock file."""
    try:
        found: Holder = json.loads(os.pread(handle, 4096, 0))
        is_alive = psutil.pid_exists(found["pid"])
    except (ValueError, TypeError, KeyError):
        return {}
    return found if is_alive else {}


def describe_holders(holders: Sequence[Holder]) -> str:
    """Return a phrase that names holders."""
    return " and ".join(map(describe_holder, holders or [{}]))


def describe_holder(holder: Holder) -> str:
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


def find_lock_path(experiment: str = "") -> Path:
    """Return the path of the lock file of an experiment, or of the whole checkout."""
    return paths.find_root() / ".labkit" / (f"run-{experiment}.lock" if experiment else LOCK_NAME)
