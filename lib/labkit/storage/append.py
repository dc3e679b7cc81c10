"""Files that only grow, line by line."""

import os
from pathlib import Path
from typing import TextIO

from labkit.storage.atomic import sync
from labkit.storage.disk import explain_faults
from labkit.storage.locks import take_lock


def append_line(path: Path, line: str) -> None:
    """Append one line and flush it to the disk: after a crash it is there as a whole, or cut short at the very end.

    One that was cut short takes the next one not along, and those of several processes do not mix.
    """
    content = f"{line}\n".encode()
    with explain_faults(path, n_bytes=len(content)):
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # Without it, a line that another process is just writing would look as if it were cut short.
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
    """Open a log for those who watch a run: emptied first, written line by line, never a record of anything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8")
