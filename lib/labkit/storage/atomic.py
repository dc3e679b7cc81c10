"""How labkit writes a file: beside its place, flushed to the disk, then renamed. No other module writes.

A reader sees the whole old file or the whole new one, also after a crash or on a full disk. Nothing here knows what
is in a file. What takes the place of a whole folder is in `labkit.run.pipeline.outputs`.
"""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labkit.storage.disk import explain_faults

PART = ".part"
"""Ending of a file that is being written beside its place, hidden; its name holds the process that writes it."""


WRITER = re.compile(r"\..*\.(\d+)-[0-9a-f]{8}" + re.escape(PART), re.DOTALL)


LONGEST_NAME_BYTES = 255
"""What the common file systems allow."""


@contextmanager
def atomic_write(path: Path, *, n_bytes: int | None = None) -> Iterator[Path]:
    """Yield a path to write to; on success it takes the place of `path`, on any error it is removed.

    A file that is replaced hands on its permissions; a new one has those that the user's umask allows.

    Parameters
    ----------
    n_bytes
        Size of what will be written, where it is known, for the message of a full disk.

    Raises
    ------
    DiskError
        The disk is full, broken or may not be written to; what was at `path` before is there unchanged.
    """
    beside = name_beside(path)
    try:
        with explain_faults(path, beside, n_bytes=n_bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if path.is_file():
                beside.chmod(path.stat().st_mode & 0o777 | 0o200)
            yield beside
            sync(beside)
            beside.replace(path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def name_beside(path: Path) -> Path:
    """Return a new name beside a path, for what will take its place; it holds the process that writes it."""
    ending = f".{os.getpid()}-{secrets.token_hex(4)}{PART}"
    stem = path.name.encode()[: LONGEST_NAME_BYTES - len(ending) - 1].decode(errors="ignore")
    return path.with_name(f".{stem}{ending}")


def find_writer(path: Path) -> int | None:
    """Return the process that a half-written file or folder names as its writer, None if it names none."""
    found = WRITER.fullmatch(path.name)
    return int(found[1]) if found else None


def write_text(path: Path, content: str) -> None:
    """Write a whole text file in UTF-8."""
    write_bytes(path, content.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file."""
    with atomic_write(path, n_bytes=len(content)) as beside:
        beside.write_bytes(content)


def parse_json(content: bytes) -> Any:
    """Return what JSON holds.

    Raises
    ------
    ValueError
        It is not JSON, not UTF-8, or nested too deep.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON, always in the same order."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n")


def copy_file(source: Path, path: Path) -> None:
    """Put a copy of a file in place."""
    with atomic_write(path, n_bytes=source.stat().st_size) as beside:
        shutil.copyfile(source, beside)


def move(source: Path, path: Path) -> None:
    """Give a file or a folder another name on the same disk."""
    with explain_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        source.rename(path)
        sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; on success it takes the place of `path`, on any error it is removed."""
    beside = name_beside(path)
    try:
        with explain_faults(path, beside):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.mkdir()
        yield beside
        place_folder(beside, path)
    finally:
        # Once more if a call failed in its midst; what stays even then is removed later, as its name holds the process.
        for _ in range(2):
            shutil.rmtree(beside, ignore_errors=True)


def place_folder(folder: Path, path: Path) -> None:
    """Let a finished folder take the place of another, whose former content ends up at `folder`.

    Everything is on the disk before it gets its name. Where the system can exchange two names at once, there is no
    moment without a whole folder at `path`; elsewhere a crash may leave none there, and the former one at `folder`.
    """
    with explain_faults(path, folder):
        sync_tree(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            folder.rename(path)
        elif not exchange(folder, path):
            aside = folder.with_name(f"{folder.name}-before")
            path.rename(aside)
            folder.rename(path)
            aside.rename(folder)
        sync(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; return whether the system can."""
    import ctypes

    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(here, os.fsencode(one), here, os.fsencode(other), swap) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), str(other))


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush everything in a folder to the disk, then the folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            sync(path)
    sync(folder)
