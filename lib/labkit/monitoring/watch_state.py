"""What `labkit watch` keeps of an experiment: a lock, and a file with its last sign of life and what is due.

The lock is one of the operating system, so exactly one process watches an experiment, and it is free once that process
ends for any reason. The file survives: what was taken in and when the next check is due are known after a restart.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import LabkitError, list_briefly
from labkit.run.doctor import CheckResult
from labkit.storage.atomic import parse_json, write_json
from labkit.storage.locks import open_lock, take_lock
from labkit.units import format_count, format_time_span

LOOK_SECONDS = 10
"""Time between two looks, each of which is a sign of life."""
SILENT_LOOKS = 3
"""Looks that may be missing before a watch that waits counts as hanging."""
N_TRIES, RETRY_SECONDS = 10, 0.05
WAITING, CHECKING, TRAINING, STOPPED = "waiting", "checking", "training", "stopped"


@dataclass
class State:
    """What is known of the watch of an experiment.

    Attributes
    ----------
    doing, since
        `waiting`, `checking`, `training` or `stopped`, and since when.
    beat
        Time of the last sign of life.
    due
        When the next check is due at the latest; empty for now. All times are in UTC, ISO 8601.
    failures
        Checks and trainings that failed since the last success.
    taken
        Size and time of the files, and the number of log parts, that were taken in, by source.
    seen
        Size and time of the files as the last look found them, and since when in seconds since 1970, by source.
    is_postponed
        Whether a training waits for a file that is still being written.
    """

    experiment: str
    pid: int = 0
    doing: str = STOPPED
    since: str = ""
    beat: str = ""
    due: str = ""
    failures: int = 0
    taken: dict[str, list[int]] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)
    is_postponed: bool = False


def load_watch_state(experiment: str) -> State:
    """Return what is known of the watch of an experiment; nothing if there is no file, or it is damaged."""
    try:
        state = State(**parse_json(find_state(experiment).read_bytes()))
        for at in (state.beat, state.since, state.due):
            datetime.fromisoformat(at or "2000-01-01")
    except (OSError, ValueError, TypeError, AttributeError):
        return State(experiment)
    return state


def save_state(state: State, *, now: datetime, doing: str) -> None:
    """Write the state with a sign of life."""
    state.beat, state.pid = now.isoformat(timespec="seconds"), os.getpid()
    if doing != state.doing or not state.since:
        state.doing, state.since = doing, state.beat
    write_json(find_state(state.experiment), asdict(state))


@contextmanager
def hold_watch(experiment: str) -> Iterator[None]:
    """Be the only process that watches an experiment during the block.

    Raises
    ------
    LabkitError
        Another process watches it.
    """
    with open_lock(find_watch_lock(experiment)) as handle:
        # A process that only looks whether the lock is held has it for a moment.
        for _ in range(N_TRIES):
            if take_lock(handle, is_waiting=False):
                break
            time.sleep(RETRY_SECONDS)
        else:
            pid = load_watch_state(experiment).pid
            raise LabkitError(f"{experiment} is already watched (process {pid}): end that process first")
        yield


def is_watched(experiment: str) -> bool:
    """Return whether a process watches an experiment now."""
    path = find_watch_lock(experiment)
    if not path.exists():
        return False
    with open_lock(path) as handle:
        return not take_lock(handle, is_waiting=False)


def describe_watch(state: State, *, now: datetime) -> tuple[str, str]:
    """Return the state of a watch in words, and what to do about it; empty if nothing."""
    is_alive = is_watched(state.experiment)
    # A process looks at its experiments one after another: a sign of life for one of them is one for all.
    same = [state, *(list_states_beside(state) if is_alive else [])]
    ago = (now - max(datetime.fromisoformat(one.beat) for one in same)).total_seconds()
    beat = f"last beat {format_time_span(max(ago, 0))} ago"
    failed = f", {format_count(state.failures, 'failure')} in a row" if state.failures else ""
    if is_alive:
        for one in same:
            if one.doing in (CHECKING, TRAINING):
                what = one.doing if one is state else f"{one.doing} {one.experiment}"
                for_long = format_time_span(max((now - datetime.fromisoformat(one.since)).total_seconds(), 0))
                return f"{beat}, {what} for {for_long}{failed}", ""
        is_silent = ago > SILENT_LOOKS * LOOK_SECONDS
        remedy = f"it hangs: end process {state.pid} and start `labkit watch` again" if is_silent else ""
        return f"{beat}{failed}", remedy
    if state.doing == STOPPED:
        return f"{beat}, then ended{failed}", ""
    return f"{beat}, then killed while {state.doing}{failed}", "start `labkit watch` again: it continues"


def list_states_beside(state: State) -> list[State]:
    """Return the states of the other experiments that the same process watches."""
    others = [one for one in list_states() if one.pid == state.pid and one.experiment != state.experiment]
    return [one for one in others if is_watched(one.experiment)]


def list_states() -> list[State]:
    """Return the states of all experiments that were ever watched, by name."""
    found = [load_watch_state(path.stem) for path in sorted(find_state("x").parent.glob("*.json"))]
    return [state for state in found if state.beat]


def describe_watches(*, now: datetime) -> list[dict[str, Any]]:
    """Return the watches of all experiments as plain data."""
    described = [(state, *describe_watch(state, now=now)) for state in list_states()]
    return [
        {"experiment": state.experiment, "found": found, "remedy": remedy, **asdict(state)}
        for state, found, remedy in described
    ]


def check_watches(*, now: datetime) -> CheckResult:
    """Check whether a watch hangs or was killed."""
    watches = describe_watches(now=now)
    if not watches:
        return CheckResult("watch", "no experiment is watched")
    found = list_briefly([f"{one['experiment']}: {one['found']}" for one in watches])
    return CheckResult("watch", found, next((one["remedy"] for one in watches if one["remedy"]), ""))


def find_state(experiment: str) -> Path:
    """Return the file with the state of the watch of an experiment."""
    return paths.find_root() / ".labkit" / "watch" / f"{experiment}.json"


def find_watch_lock(experiment: str) -> Path:
    """Return the lock of the process that watches an experiment."""
    return find_state(experiment).with_suffix(".lock")
