"""How a process and everything it started is ended: nothing may outlive the run it belongs to.

Linux only; elsewhere the functions do nothing and say so by returning False. Not when to end something: that is
`labkit.run.kernels.fork_server`, whose keepers stand between a kernel and the rest of the world.
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

# Numbers of prctl(2).
SET_PARENT_DEATH_SIGNAL = 1
SET_CHILD_SUBREAPER = 36

KILL_PAUSE_SECONDS = 0.01


def is_supported() -> bool:
    """Return whether this system can adopt orphans and watch a process by a file descriptor."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends, instead of the system's first process."""
    return call_prctl(SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the system kill this process when `parent`, its parent, ends; at once if it has ended already.

    It stays so if this process executes another program.
    """
    call_prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Undo `die_with`."""
    call_prctl(SET_PARENT_DEATH_SIGNAL, 0)


def make_tie() -> Callable[[], None] | None:
    """Return what a child of this process calls first to die with it, None where that would end it too early.

    The system takes the thread that starts a child for its parent, so that only the main thread can be trusted to last.
    """
    if not is_supported() or threading.current_thread() is not threading.main_thread():
        return None
    # Found now: another thread may hold the loader's lock while the child is split off.
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
    """Kill every process below this one, whatever sessions they opened, and wait until none is left.

    A process may start another one while it is being killed, and orphans arrive here only after their parents have
    gone, so that one pass is not enough.

    Parameters
    ----------
    spared
        Processes that stay, with all that is below them.

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
    """Return every process below this one that has not ended, without the spared ones and what is below them."""
    try:
        children = [child for child in psutil.Process().children() if child.pid not in spared]
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        if reap(child.pid):
            continue
        try:
            found += [child, *child.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def reap(pid: int) -> bool:
    """Collect a child that has ended, so that it does not stay as a zombie; return whether there was one."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
