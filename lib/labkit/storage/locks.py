"""Locks on files, released when their process ends, whichever way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.storage.disk import explain_faults


@contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Yield the file that carries a lock, not locked; closing it frees the lock. The file stays."""
    with explain_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def take_lock(handle: int, *, is_waiting: bool = True) -> bool:
    """Be the only one who has locked an open file, until it is closed; return whether that is so.

    The lock is the system's own, which frees that of a process that dies.
    """
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Let one process at a time run this block."""
    with open_lock(path) as handle:
        take_lock(handle)
        yield


def note_holder(handle: int, path: Path, content: bytes) -> None:
    """Write into the file of a lock who holds it; not flushed, as it need not outlive the holder."""
    with explain_faults(path, n_bytes=len(content)):
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
