"""Disk errors, a full disk above all, as messages that name what to do."""

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
    """Turn the system's refusal to write at `path` into an error that names it, and the bytes where they are too few.

    Parameters
    ----------
    beside
        The file that is being written in its stead; it is removed before the free bytes are counted.
    n_bytes
        What is needed; where it is not known, more than what was written until then and than what is free.
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
    """Return whether an error is of what is written at `path` or beside it, not of something else opened meanwhile."""
    # A copy names where it came from first, and where it goes second.
    named = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    if not named:
        return error.filename is None
    return any(
        one == path or one in path.parents or (beside is not None and one.is_relative_to(beside)) for one in named
    )


def describe_full(path: Path, needed: str) -> str:
    """Describe that a disk is full: what is needed, and what is free where `path` should go."""
    free = format_bytes(shutil.disk_usage(find_folder(path)).free)
    return f"disk full: needs {needed}, {free} free at {path}: free disk space and run again"


def is_full(error: BaseException | None) -> bool:
    """Return whether an error comes of a full disk, be it at the root of others."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def find_folder(path: Path) -> Path:
    """Return the nearest folder above a path that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())
