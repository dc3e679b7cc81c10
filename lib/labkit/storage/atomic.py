"""Atomic writes: a file is written next to its path, flushed to disk, then renamed. No other package writes files.

A reader sees either the whole old file or the whole new one, also after a crash or on a full disk. The content of files
does not matter here. `labkit.run.pipeline.outputs` replaces whole output folders.
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

from labkit.errors import DiskError
from labkit.storage.disk import explain_faults

PART = ".part"
"""Ending of a hidden file that is being written next to its path; its name contains the writing process."""


WRITER = re.compile(r"\..*\.(\d+)-[0-9a-f]{8}" + re.escape(PART), re.DOTALL)


LONGEST_NAME_BYTES = 255
"""Limit of common file systems."""


@contextmanager
def atomic_write(
    path: Path, *, n_bytes: int | None = None, mode: int | None = None, is_flushed: bool = True
) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` on success, and is removed on any error.

    A replaced file passes on its permissions; a new one gets those that the user's umask allows.

    Parameters
    ----------
    path
        The file to write.
    n_bytes
        Size of the content, in bytes, if it is known; it is reported if the disk is full.
    mode
        Largest permissions of the file from its first byte on, also if it replaces one with more; None for the above.
    is_flushed
        Whether the content has to survive a crash of the machine, not only one of the process.

    Raises
    ------
    DiskError
        The disk is full or broken, or the file cannot be written; the previous file is unchanged.
    """
    beside = name_beside(path)
    try:
        with explain_faults(path, beside, n_bytes=n_bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode))
            if mode is None and path.is_file():
                beside.chmod(path.stat().st_mode & 0o777 | 0o200)
            yield beside
            if is_flushed:
                sync(beside)
            beside.replace(path)
            if is_flushed:
                sync(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def name_beside(path: Path) -> Path:
    """Return a new name next to a path, for the file that will replace it; it contains the id of this process."""
    ending = f".{os.getpid()}-{secrets.token_hex(4)}{PART}"
    stem = path.name.encode()[: LONGEST_NAME_BYTES - len(ending) - 1].decode(errors="ignore")
    return path.with_name(f".{stem}{ending}")


def find_writer(path: Path) -> int | None:
    """Return the id of the process that writes an unfinished file or folder, None if the name contains none.

    Parameters
    ----------
    path
        Path of the file or folder.
    """
    found = WRITER.fullmatch(path.name)
    return int(found[1]) if found else None


def write_text(path: Path, content: str, *, mode: int | None = None) -> None:
    """Write a text file in UTF-8 atomically.

    Parameters
    ----------
    path
        The file to write.
    content
        Its content.
    mode
        See `atomic_write`.

    Raises
    ------
    DiskError
        See `atomic_write`.
    """
    write_bytes(path, content.encode(), mode=mode)


def write_bytes(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file atomically.

    Parameters
    ----------
    path
        The file to write.
    content
        Its content.
    mode
        See `atomic_write`.

    Raises
    ------
    DiskError
        See `atomic_write`.
    """
    with atomic_write(path, n_bytes=len(content), mode=mode) as beside:
        beside.write_bytes(content)


def parse_json(content: bytes) -> Any:
    """Parse JSON.

    Parameters
    ----------
    content
        JSON in UTF-8.

    Raises
    ------
    ValueError
        It is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON atomically, with sorted keys.

    Parameters
    ----------
    path
        The file to write.
    content
        Plain data.

    Raises
    ------
    ValueError
        A number is infinite or NaN.
    DiskError
        See `atomic_write`.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file atomically.

    Parameters
    ----------
    source
        The file to copy.
    path
        The file to write.

    Raises
    ------
    DiskError
        See `atomic_write`.
    """
    with atomic_write(path, n_bytes=source.stat().st_size) as beside:
        shutil.copyfile(source, beside)


def move(source: Path, path: Path) -> None:
    """Rename a file or a folder on the same disk.

    Parameters
    ----------
    source
        Current path.
    path
        New path; missing folders above it are created.

    Raises
    ------
    DiskError
        The file system refuses it.
    """
    with explain_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        source.rename(path)
        sync(path.parent)


@contextmanager
def atomic_folder(path: Path, *, is_new: bool = False) -> Iterator[Path]:
    """Yield an empty folder to write to; it replaces `path` on success, and is removed on any error.

    Parameters
    ----------
    path
        The folder to write or replace.
    is_new
        Replace nothing but an empty folder, also if somebody else makes `path` in the meantime.

    Raises
    ------
    DiskError
        The disk is full or broken, the folder cannot be written, or with `is_new` there is something at `path`.
    """
    beside = name_beside(path)
    try:
        with explain_faults(path, beside):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.mkdir()
        yield beside
        if is_new:
            place_new_folder(beside, path)
        else:
            place_folder(beside, path)
    finally:
        # A second attempt if a call was interrupted. What remains even then is removed later, as its name has the
        # process id.
        for _ in range(2):
            shutil.rmtree(beside, ignore_errors=True)


def place_folder(folder: Path, path: Path) -> None:
    """Replace a folder with a finished one, and leave the previous content, if any, at `folder`.

    Everything is flushed to disk before it is renamed. Where the system can exchange two names atomically, there is
    always a whole folder at `path`; elsewhere a crash may leave no folder there and the previous one next to it.

    Parameters
    ----------
    folder
        The finished folder, on the same disk.
    path
        The folder to replace; it need not exist.
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


def place_new_folder(folder: Path, path: Path) -> None:
    """Rename a finished folder to a path at which there is nothing, or an empty folder.

    Raises
    ------
    DiskError
        There is something, which is kept, or the file system refuses it.
    """
    with explain_faults(path, folder):
        sync_tree(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise DiskError(f"{path}: exists by now, and is not replaced: name another folder") from error
            raise
        sync(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; return whether the system supports it."""
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
    """Flush a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush a folder and everything in it to disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            sync(path)
    sync(folder)
