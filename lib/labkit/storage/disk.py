"""Disk errors, especially a full disk, as messages that name what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import DiskError
from labkit.units import format_bytes

FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def explain_faults(path: Path, beside: Path | None = None, *, n_bytes: int | None = None) -> Iterator[None]:
    """Convert system errors on writing `path` to errors that name it, and the free and needed bytes on a full disk.

    Parameters
    ----------
    path
        The file or folder being written.
    beside
        The temporary file written in its place; it is removed before the free bytes are counted.
    n_bytes
        Bytes needed. If unknown, the message reports more than the bytes written so far, or than the bytes free.

    Raises
    ------
    DiskError
        The disk is full or broken, or `path` cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or not is_about(error, path, beside):
            raise
        if error.errno not in FULL:
            raise DiskError(f"{path}: cannot be written: {os.strerror(error.errno)}") from error
        written = 0
        if beside is not None and beside.is_file():
            written = beside.stat().st_size
            beside.unlink()
        least = max(written, shutil.disk_usage(find_folder(path)).free)
        needed = f"more than {format_bytes(least)}" if n_bytes is None else format_bytes(n_bytes)
        raise DiskError(describe_full(path, needed)) from error


def is_about(error: OSError, path: Path, beside: Path | None) -> bool:
    """Return whether an error concerns `path` or the file next to it, not another file opened meanwhile."""
    # Errors of a copy name the source first and the destination second.
    named = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    if not named:
        return error.filename is None
    return any(
        one == path or one in path.parents or (beside is not None and one.is_relative_to(beside)) for one in named
    )


def describe_full(path: Path, needed: str) -> str:
    """Describe a full disk: the space needed, and the space free where `path` is written.

    Parameters
    ----------
    path
        The file or folder being written.
    needed
        The space needed, in words.
    """
    free = format_bytes(shutil.disk_usage(find_folder(path)).free)
    return f"disk full: needs {needed}, {free} free at {path}: free disk space and run again"


def is_full(error: BaseException | None) -> bool:
    """Return whether an error, or any of its causes, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def find_folder(path: Path) -> Path:
    """Return the nearest existing folder above a path."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())
