"""Files that this process has read, also those that a library opens by itself: reported by Linux, see fanotify(7).

Elsewhere, and where Linux forbids it, nothing is seen.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

FLAGS = 0x1 | 0x2 | 0xC00
"""FAN_CLOEXEC, FAN_NONBLOCK and FAN_REPORT_DFID_NAME: report the folder and the name of a file."""
ADD = 0x1
READ_IN_FOLDER = 0x1 | 0x0800_0000
"""FAN_ACCESS and FAN_EVENT_ON_CHILD."""
HERE = -100
"""AT_FDCWD."""
EVENT = struct.Struct("=IBBHQii")
RECORD = struct.Struct("=BBH8xIi")
MOST_BYTES = 128
"""Size of the largest file handle."""


class FileHandle(ctypes.Structure):
    """What identifies a folder in events; see name_to_handle_at(2)."""

    _fields_ = (("n_bytes", ctypes.c_uint), ("kind", ctypes.c_int), ("content", ctypes.c_ubyte * MOST_BYTES))


class FileWatch:
    """Reports reads of files in some folders.

    Attributes
    ----------
    folders
        Watched folders by their handles.
    """

    def __init__(self) -> None:
        self.folders: dict[bytes, Path] = {}
        self.library: Any = None
        self.descriptor = -1
        with suppress(OSError, AttributeError):  # another system than Linux
            library = ctypes.CDLL(None, use_errno=True)
            self.descriptor = library.fanotify_init(FLAGS, os.O_RDONLY)
            library.fanotify_mark.argtypes = [
                *(ctypes.c_int, ctypes.c_uint, ctypes.c_uint64),
                *(ctypes.c_int, ctypes.c_char_p),
            ]
            self.library = library

    def add(self, folders: Iterable[Path]) -> None:
        """Watch the files in some folders, not those in folders below."""
        if self.descriptor < 0:
            return
        for folder in folders:
            name, handle = os.fsencode(folder), FileHandle(MOST_BYTES)
            if self.library.name_to_handle_at(HERE, name, ctypes.byref(handle), ctypes.byref(ctypes.c_int()), 0):
                continue
            if not self.library.fanotify_mark(self.descriptor, ADD, READ_IN_FOLDER, HERE, name):
                self.folders[bytes(handle.content[: handle.n_bytes])] = folder

    def list_read(self) -> list[Path]:
        """Return the files that this process has read since the last call."""
        found: list[Path] = []
        while self.folders:
            try:
                content = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                break
            found += self.list_files(content)
        return found

    def list_files(self, content: bytes) -> Iterator[Path]:
        """Yield the files that events of this process name."""
        place = 0
        while place < len(content):
            length, *_, process = EVENT.unpack_from(content, place)
            if process == os.getpid():
                *_, n_bytes, _ = RECORD.unpack_from(content, place + EVENT.size)
                start = place + EVENT.size + RECORD.size
                name = content[start + n_bytes : place + length].partition(b"\0")[0]
                if folder := self.folders.get(content[start : start + n_bytes]):
                    yield folder / os.fsdecode(name)
            place += length
