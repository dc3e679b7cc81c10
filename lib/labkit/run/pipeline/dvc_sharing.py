"""What runs share of DVC in a checkout: its lock, for which they queue, and its files, which are written as a whole.

DVC holds its lock except while a stage's command runs, and adds each finished stage to dvc.lock under it. By itself it
gives up after three seconds, and writes dvc.lock and its list of readers and writers in place: a run that is killed
meanwhile would leave half a file to the others.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
from dvc.fs import LocalFileSystem
from dvc.lock import LockBase, LockError
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
    report
        Called with one line that names the command of DVC that is waited for.

    Attributes
    ----------
    is_patient
        Wait for a command of DVC until it ends, instead of three seconds.
    """

    def __init__(self, own: LockBase, path: Path, report: Callable[[str], None]) -> None:
        super().__init__(own.lockfile)
        self.own, self.path, self.report, self.held = own, path, report, ExitStack()
        self.is_patient = True

    def lock(self) -> None:
        """Wait for the processes of labkit, and then for commands of DVC such as `dvc push`.

        Raises
        ------
        LockError
            A command of DVC holds the lock and `is_patient` is not set.
        """
        with ExitStack() as stack:
            stack.enter_context(hold_lock(self.path))
            self.lock_own()
            self.held = stack.pop_all()

    def lock_own(self) -> None:
        """Take DVC's lock, which gives up after three seconds each time."""
        is_reported = False
        while True:
            try:
                self.own.lock()
            except LockError:
                if not self.is_patient:
                    raise
            else:
                return
            if not is_reported:
                self.report(f"waiting for {describe_command(Path(self.own.lockfile))} …")
                is_reported = True

    @contextmanager
    def refuse_to_wait(self) -> Iterator[None]:
        """Give up on a command of DVC after three seconds during the block."""
        self.is_patient = False
        try:
            yield
        finally:
            self.is_patient = True

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


def describe_command(path: Path) -> str:
    """Return a phrase that names the command of DVC whose process id is in DVC's lock file."""
    with suppress(OSError, ValueError, psutil.Error):
        pid = int(path.read_text(encoding="ascii"))
        words = [Path(word).name for word in psutil.Process(pid).cmdline()]
        command = " ".join(words[words.index("dvc") :][:2]) if "dvc" in words else "a DVC command"
        return f"{command} (process {pid})"
    return "a DVC command"


def share(repo: Repo, report: Callable[[str], None]) -> None:
    """Let a repository be used by several runs at once.

    Parameters
    ----------
    report
        Called with a line about a command of DVC that is waited for.
    """
    repo.fs = WholeFiles()
    repo.lock = QueuedLock(repo.lock, paths.find_root() / ".labkit" / QUEUE_NAME, report)


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
