"""The files of a run's work folder at one moment, and putting them back as they were.

Small files are remembered with their content; of large ones only that they have not been touched since.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.storage.atomic import write_bytes

LARGEST_KEPT_BYTES = 1_000_000
MOST_KEPT_BYTES = 50_000_000
CLOCK_SECONDS = 0.05
"""Files that are written within the same tick of the system's clock have the same time of change."""

FileState = tuple[int, int, int, int]


@dataclass(frozen=True)
class WorkFile:
    """One file: its state then, and its content if it was small; `state` is None for a folder."""

    state: FileState | None
    content: bytes | None = None


def note_files(folder: Path) -> dict[str, WorkFile]:
    """Return the files and folders below a folder, by name relative to it; nothing may write to them meanwhile."""
    found, n_left = {}, MOST_KEPT_BYTES
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            found[name] = WorkFile(None)
            continue
        state = path.lstat()
        if time.time() - state.st_mtime < CLOCK_SECONDS:
            time.sleep(CLOCK_SECONDS)
        is_kept = path.is_file() and not path.is_symlink() and state.st_size <= min(LARGEST_KEPT_BYTES, n_left)
        n_left -= state.st_size if is_kept else 0
        found[name] = WorkFile(find_exact_state(path), path.read_bytes() if is_kept else None)
    return found


def find_exact_state(path: Path) -> FileState | None:
    """Return size, times of change and number of a file, None if there is none; a link is not followed."""
    try:
        state = path.lstat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def restore_work(folder: Path, noted: Mapping[str, WorkFile]) -> str:
    """Put back the files of a folder as they were; return the name of the first that cannot be, empty if all are."""
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if name not in noted or is_folder != (noted[name].state is None):
            if is_folder:
                shutil.rmtree(path)
            else:
                path.unlink()
    for name, file in noted.items():
        path = folder / name
        if file.state is None:
            path.mkdir(exist_ok=True)
        elif find_exact_state(path) != file.state:
            if file.content is None:
                return name
            write_bytes(path, file.content)
    return ""
