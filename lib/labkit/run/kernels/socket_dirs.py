"""Temporary folders for sockets, private to this user, one per process.

They are not in the checkout, because the path of a socket is limited to 107 characters. A process holds the lock of its
folder until it ends, in whatever way; creating a folder removes all others whose lock is free.
"""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from labkit.errors import LabkitError
from labkit.storage.locks import open_lock, take_lock

PREFIX, OWNER = "labkit-", "owner"
YOUNGEST_SECONDS = 2
"""A newer folder may belong to a process that is about to lock it."""
held: dict[Path, ExitStack] = {}


def make_folder() -> Path:
    """Create a folder for this process, and remove those left by dead processes."""
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    held[folder] = ExitStack()
    take_lock(held[folder].enter_context(open_lock(folder / OWNER)))
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder that this process created, with its content."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder in held:
        held.pop(folder).close()


def remove_abandoned() -> None:
    """Remove this user's folders whose owners have ended."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError, LabkitError):
            found = owner.stat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < YOUNGEST_SECONDS:
                continue
            with open_lock(owner) as handle:
                if take_lock(handle, is_waiting=False):
                    shutil.rmtree(owner.parent, ignore_errors=True)
