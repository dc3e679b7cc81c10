"""File locks, which are released when their process ends for any reason."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.storage.disk import explain_faults


@contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Yield a descriptor of a lock file, not yet locked; closing it releases the lock. The file is not removed."""
    with explain_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def take_lock(handle: int, *, is_waiting: bool = True, is_shared: bool = False) -> bool:
    """Lock an open file until it is closed.

    The lock is `flock`, which the system releases when the process dies.

    Parameters
    ----------
    handle
        File descriptor.
    is_waiting
        Whether to wait for another holder.
    is_shared
        Whether to hold it beside others who share it, instead of alone.

    Returns
    -------
    bool
        Whether the lock was acquired.
    """
    import fcntl

    try:
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        fcntl.flock(handle, kind | (0 if is_waiting else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def is_in_place(handle: int, path: Path) -> bool:
    """Return whether an open lock file still has its path, where its holders remove it: else it locks nothing."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Run the block in one process at a time, waiting for others.

    Parameters
    ----------
    path
        The lock file; it is created if missing and not removed.
    """
    with open_lock(path) as handle:
        take_lock(handle)
        yield


def note_holder(handle: int, path: Path, content: bytes) -> None:
    """Write the holder of a lock to its file; not flushed, as it need not outlive the holder.

    Parameters
    ----------
    handle
        File descriptor of the lock file.
    path
        Its path, for error messages.
    content
        Description of the holder.
    """
    with explain_faults(path, n_bytes=len(content)):
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
