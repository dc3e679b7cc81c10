"""Folders for sockets, one process's own each: only this user reaches them, and nothing stays of them.

They are not below the checkout, because the path of a socket may have 107 characters at most. A process holds the lock
of its folder until it ends, whatever way; whoever makes the next folder removes those whose lock is free.
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
"""A younger folder may belong to somebody who is about to lock it."""
held: dict[Path, ExitStack] = {}


def make_folder() -> Path:
    """Make a folder that is this process's own, and remove those that dead processes left."""
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    held[folder] = ExitStack()
    take_lock(held[folder].enter_context(open_lock(folder / OWNER)))
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder that this process made, with all in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder in held:
        held.pop(folder).close()


def remove_abandoned() -> None:
    """Remove this user's folders whose owners are gone."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError, LabkitError):
            found = owner.stat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < YOUNGEST_SECONDS:
                continue
            with open_lock(owner) as handle:
                if take_lock(handle, is_waiting=False):
                    shutil.rmtree(owner.parent, ignore_errors=True)
