"""Append-only files of lines."""

import os
from pathlib import Path
from typing import TextIO

from labkit.storage.atomic import sync
from labkit.storage.disk import explain_faults
from labkit.storage.locks import take_lock


def append_line(path: Path, line: str, *, mode: int = 0o666) -> None:
    """Append one line and flush it to disk; a crash leaves it complete, or truncated at the end of the file.

    A truncated line does not corrupt the next one, and lines of several processes do not interleave.

    Parameters
    ----------
    path
        The file; it is created if it does not exist.
    line
        The line, without a line break.
    mode
        Permissions of a new file, as far as the user's umask allows.

    Raises
    ------
    DiskError
        The disk is full or broken, or the file cannot be written.
    """
    content = f"{line}\n".encode()
    with explain_faults(path, n_bytes=len(content)):
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
        try:
            # Without the lock, a line that another process is just writing would look truncated.
            take_lock(handle)
            size = os.fstat(handle).st_size
            is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            left = memoryview(b"\n" + content if is_torn else content)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
            sync(path.parent)


def open_log(path: Path) -> TextIO:
    """Open a log for watching a run: emptied first, written line by line, never used as a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8")
