"""What runs share of DVC in a checkout: its lock, for which they queue, and its files, which are written as a whole.

DVC holds its lock except while a stage's command runs, and adds each finished stage to dvc.lock under it. By itself it
gives up after three seconds, and writes dvc.lock and its list of readers and writers in place: a run that is killed
meanwhile would leave half a file to the others.
"""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from dvc.fs import LocalFileSystem
from dvc.lock import LockBase
from dvc.repo import Repo

from labkit import paths
from labkit.run.pipeline.locked_stages import DVC_LOCK, sort_sections
from labkit.storage.atomic import atomic_write
from labkit.storage.locks import hold_lock

READERS_AND_WRITERS = "rwlock"
QUEUE_NAME = "dvc-queue.lock"


class QueuedLock(LockBase):  # type: ignore[misc]
    """DVC's lock, for which processes of labkit wait in a queue of their own, however long another one holds it.

    Parameters
    ----------
    own
        DVC's lock, which is taken as well: other commands of DVC know nothing of the queue.
    path
        Lock file of the queue.
    """

    def __init__(self, own: LockBase, path: Path) -> None:
        super().__init__(own.lockfile)
        self.own, self.path, self.held = own, path, ExitStack()

    def lock(self) -> None:
        """Wait for the processes of labkit, and at most three seconds for a command of DVC."""
        with ExitStack() as stack:
            stack.enter_context(hold_lock(self.path))
            self.own.lock()
            self.held = stack.pop_all()

    def unlock(self) -> None:
        """Release both."""
        with self.held:
            self.own.unlock()

    @property
    def is_locked(self) -> bool:
        """Whether this process holds the lock."""
        return bool(self.own.is_locked)

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *error: object) -> None:
        self.unlock()


class WholeFiles(LocalFileSystem):  # type: ignore[misc]
    """The local file system, on which the files that runs share are replaced as a whole."""

    open_in_place = LocalFileSystem.open

    def open(self, path: str, mode: str = "r", **options: Any) -> AbstractContextManager[Any]:
        """Open a file; dvc.lock and the list of readers and writers are in place once they are closed."""
        if "w" in mode and Path(path).name in (DVC_LOCK, READERS_AND_WRITERS):
            return write_whole(Path(path))
        opened: AbstractContextManager[Any] = self.open_in_place(path, mode, **options)
        return opened


@contextmanager
def write_whole(path: Path) -> Iterator[StringIO]:
    """Yield a stream whose content replaces a file; that of dvc.lock does not depend on which experiment ran first."""
    is_lock = path.name == DVC_LOCK
    stream = StringIO()
    yield stream
    content = stream.getvalue()
    # The list is of no use after a crash of the machine, and is written often.
    with atomic_write(path, is_flushed=is_lock) as beside:
        beside.write_text(sort_sections(content) if is_lock else content, encoding="utf-8")


def share(repo: Repo) -> None:
    """Let a repository be used by several runs at once."""
    repo.fs = WholeFiles()
    repo.lock = QueuedLock(repo.lock, paths.find_root() / ".labkit" / QUEUE_NAME)


def remove_torn_list(path: Path) -> None:
    """Remove DVC's list of readers and writers if a killed process left it half-written, which DVC cannot handle."""
    for _ in range(2):
        try:
            if isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                return
        except FileNotFoundError:
            return
        except ValueError:
            pass
        time.sleep(0.2)  # a process may be writing it at this moment
    path.unlink(missing_ok=True)
