"""Killing a process and everything that it started: nothing may outlive its run.

Linux only; elsewhere the functions do nothing and return False. They are called by the keepers of
`labkit.run.kernels.fork_server`.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

import psutil

from labkit.run.memory import KEPT_NAME

# Numbers of prctl(2).
SET_PARENT_DEATH_SIGNAL = 1
SET_NAME = 15
SET_CHILD_SUBREAPER = 36

KILL_PAUSE_SECONDS = 0.01


def is_supported() -> bool:
    """Return whether this system can adopt orphans and watch a process by a file descriptor."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def adopt_orphans() -> bool:
    """Become the parent of every orphaned descendant, instead of the init process."""
    return call_prctl(SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends; exit at once if that has already happened.

    This still applies after this process executes another program.
    """
    call_prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Undo `die_with`."""
    call_prctl(SET_PARENT_DEATH_SIGNAL, 0)


def set_name(name: str) -> None:
    """Name this process, in at most 15 bytes, for itself and for lists of processes."""
    if is_supported():
        find_prctl()(SET_NAME, name.encode(), 0, 0, 0)


def get_name(pid: int) -> str:
    """Return the name of a process, empty if it has ended."""
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return ""


def make_tie() -> Callable[[], None] | None:
    """Return a `preexec_fn` that makes a child die with this process, None if it might die too early.

    The system treats the thread that starts a child as its parent; only the main thread lasts as long as the process.
    """
    if not is_supported() or threading.current_thread() is not threading.main_thread():
        return None
    # Loaded now: another thread may hold the import lock while the child is forked.
    find_prctl()
    parent = os.getpid()
    return lambda: die_with(parent)


@cache
def find_prctl() -> Callable[..., int]:
    """Return prctl(2)."""
    function: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    return function


def call_prctl(option: int, value: int) -> bool:
    """Call prctl(2); return whether it succeeded."""
    return is_supported() and find_prctl()(option, value, 0, 0, 0) == 0


def end_descendants(spared: frozenset[int] = frozenset()) -> int:
    """Kill every descendant of this process, in whatever session, and wait until none is left but kept checkpoints.

    One pass is not enough: a process may start another one while it is being killed, and orphans are adopted only after
    their parents have ended.

    Parameters
    ----------
    spared
        Processes to keep, with all their descendants.

    Returns
    -------
    int
        Number of processes that were killed.
    """
    killed: set[int] = set()
    while below := list_descendants(spared):
        for process in below:
            try:
                process.kill()
                killed.add(process.pid)
            except psutil.NoSuchProcess:
                continue
        for process in below:
            reap(process.pid)
        time.sleep(KILL_PAUSE_SECONDS)
    return len(killed)


def list_descendants(spared: frozenset[int] = frozenset()) -> list[psutil.Process]:
    """Return every running descendant of this process, without the spared ones, checkpoints and their descendants."""
    try:
        children = [child for child in psutil.Process().children() if child.pid not in spared]
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        if reap(child.pid):
            continue
        found += list_family(child)
    return found


def list_family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and those below it, without kept checkpoints and their descendants."""
    found, kept = [], set()
    try:
        # Parents come before their children.
        for one in (process, *process.children(recursive=True)):
            if one.name() == KEPT_NAME or one.ppid() in kept:
                kept.add(one.pid)
            else:
                found.append(one)
    except psutil.NoSuchProcess:
        return found
    return found


def reap(pid: int) -> bool:
    """Reap a child that has ended, so that it does not stay a zombie; return whether it had ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
