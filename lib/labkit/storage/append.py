"""Append-only files of lines."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TextIO

from labkit.storage.atomic import PART, atomic_write, find_writer, sync
from labkit.storage.disk import explain_faults
from labkit.storage.locks import is_in_place, take_lock


def append_line(path: Path, line: str, *, mode: int = 0o666) -> None:
    """Append one line and flush it to disk; a crash leaves it complete, or truncated at the end of the file.

    A truncated line does not corrupt the next one, and lines of several processes do not interleave, nor are they lost
    when another process rewrites the file.

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
        with open_locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode) as handle:
            # Without the lock, a line that another process is just writing would look truncated.
            size = os.fstat(handle).st_size
            is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            left = memoryview(b"\n" + content if is_torn else content)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        if is_new:
            sync(path.parent)


@contextmanager
def open_locked(path: Path, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Yield a descriptor of a file that is locked, and is still the file of its path."""
    while True:
        handle = os.open(path, flags | os.O_CLOEXEC, mode)
        try:
            take_lock(handle)
            if is_in_place(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are whole; none if there is no file."""
    with suppress(FileNotFoundError), path.open("rb") as stream:
        yield from (line for line in stream if line.endswith(b"\n"))


def rewrite_lines(path: Path, choose: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
    """Replace the lines of a file to which other processes append, which they do again from then on.

    The file is replaced as a whole, with the same permissions: a crash leaves the former one, and the next call removes
    what else it left.

    Parameters
    ----------
    path
        The file, which exists.
    choose
        Takes the whole lines and yields the new ones, with their line breaks.
    """
    with explain_faults(path), open_locked(path, os.O_RDWR):
        for left in path.parent.glob(f".{escape(path.name)}.*{PART}"):
            if find_writer(left) is not None:  # it was killed, as it had the lock
                left.unlink(missing_ok=True)
        with atomic_write(path) as beside, beside.open("wb") as stream:
            stream.writelines(choose(read_lines(path)))


def open_log(path: Path) -> TextIO:
    """Open a log for watching a run: emptied first, written line by line, never used as a record.

    Another process may still write to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("w").close()
    return path.open("a", encoding="utf-8")
