"""Files of lines to which every process of a service appends, and which each of them reads as they grow."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MOST_FED_BYTES = 1024 * 1024 * 1024
"""Largest size of a file, which also keeps what later lines replaced."""


@dataclass
class FedFile:
    """A file, and how far it was read."""

    path: Path
    inode: int = 0
    offset: int = 0

    def is_replaced(self) -> bool:
        """Return whether the file is another one than was read so far, or gone; it is then read from its start."""
        try:
            with self.path.open("rb") as stream:
                inode = os.fstat(stream.fileno()).st_ino
                is_other = inode != self.inode or not follows_line(stream, self.offset)
        except FileNotFoundError:
            inode, is_other = 0, bool(self.inode)
        if is_other:
            self.inode, self.offset = inode, 0
        return is_other

    def read(self) -> Iterator[bytes]:
        """Yield the whole lines that were added."""
        with suppress(FileNotFoundError), self.path.open("rb") as stream:
            stream.seek(self.offset)
            for line in stream:
                if not line.endswith(b"\n"):  # still being written
                    break
                self.offset += len(line)
                yield line


def follows_line(stream: BinaryIO, offset: int) -> bool:
    """Return whether a place in a file is its start or follows a line, as where a reader of whole lines stopped."""
    return not offset or os.pread(stream.fileno(), 1, offset - 1) == b"\n"
