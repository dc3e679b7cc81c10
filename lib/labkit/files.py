"""How labkit writes a file: beside its place, flushed to the disk, then renamed. No other module writes.

A reader sees the whole old file or the whole new one, also after a crash or on a full disk. Nothing here knows what
is in a file. What takes the place of a whole folder is in `labkit.run.outputs`.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from labkit.counts import format_count
from labkit.errors import DiskError

PART = ".part"
"""Ending of a file that is being written beside its place, hidden; its name tells which process writes it."""
WRITER = re.compile(r"\..*\.(\d+)-[0-9a-f]{8}" + re.escape(PART), re.DOTALL)
FULL = {errno.ENOSPC, errno.EDQUOT}
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
    """Return a new name beside a path, for what will take its place: it tells which process writes it."""
    ending = f".{os.getpid()}-{secrets.token_hex(4)}{PART}"
    stem = path.name.encode()[: LONGEST_NAME_BYTES - len(ending) - 1].decode(errors="ignore")
    return path.with_name(f".{stem}{ending}")


def find_writer(path: Path) -> int | None:
    """Return the process that a half-written file or folder names as its writer, None if it names none."""
    found = WRITER.fullmatch(path.name)
    return int(found[1]) if found else None


@contextmanager
def explain_faults(path: Path, beside: Path | None = None, *, n_bytes: int | None = None) -> Iterator[None]:
    """Turn the system's refusal to write at `path` into an error that names it, and the bytes where they are too few.

    Parameters
    ----------
    beside
        The file that is being written in its stead; it is removed before the free bytes are counted.
    n_bytes
        What is needed; where it is not known, more than what was written until then and than what is free.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or not is_about(error, path, beside):
            raise
        if error.errno not in FULL:
            raise DiskError(f"{path}: cannot be written: {os.strerror(error.errno)}") from error
        written = 0
        if beside is not None and beside.is_file():
            written = beside.stat().st_size
            beside.unlink()
        least = max(written, shutil.disk_usage(find_folder(path)).free)
        needed = f"more than {format_bytes(least)}" if n_bytes is None else format_bytes(n_bytes)
        raise DiskError(describe_full(path, needed)) from error


def is_about(error: OSError, path: Path, beside: Path | None) -> bool:
    """Tell whether an error is of what is written at `path` or beside it, not of something else opened meanwhile."""
    # A copy names where it came from first, and where it goes second.
    named = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    if not named:
        return error.filename is None
    return any(
        one == path or one in path.parents or (beside is not None and one.is_relative_to(beside)) for one in named
    )


def describe_full(path: Path, needed: str) -> str:
    """Say that a disk is full: what is needed, and what is free where `path` should go."""
    free = format_bytes(shutil.disk_usage(find_folder(path)).free)
    return f"disk full: needs {needed}, {free} free at {path}: make room and run again"


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error comes of a full disk, be it at the root of others."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def find_folder(path: Path) -> Path:
    """Return the nearest folder above a path that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def format_bytes(n_bytes: int) -> str:
    """Return a number of bytes for people, and exactly.

    >>> format_bytes(1), format_bytes(2_097_152)
    ('1 byte', '2.1 MB (2,097,152 bytes)')
    """
    exact = format_count(n_bytes, "byte")
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit} ({exact})"
    return exact


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file."""
    with atomic_write(path, n_bytes=len(content)) as beside:
        beside.write_bytes(content)


def parse_json(content: bytes) -> Any:
    """Return what JSON holds.

    Raises
    ------
    ValueError
        It is none, be it not UTF-8 or nested so deep that no program of ours wrote it.
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


@contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Yield the file that carries a lock, not locked; closing it frees the lock. The file stays, whatever it says."""
    with explain_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def take_lock(handle: int, *, is_waiting: bool = True) -> bool:
    """Be the only one who has locked an open file, until it is closed; tell whether that is so.

    The lock is the system's own, which frees that of a process that dies.
    """
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Let one process at a time run this block."""
    with open_lock(path) as handle:
        take_lock(handle)
        yield


def note_holder(handle: int, path: Path, content: bytes) -> None:
    """Let the file of a lock say this of its holder; it need not outlive him, so it is not flushed."""
    with explain_faults(path, n_bytes=len(content)):
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)


def move(source: Path, path: Path) -> None:
    """Give a file or a folder another name on the same disk."""
    with explain_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        source.rename(path)
        sync(path.parent)


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
    """Open a log for those who look on: begun anew, told line by line, never a record of anything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8")


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
        # Once more if a call failed in its midst; what stays even then is swept, as its name says whose it is.
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
    """Exchange two names at once; tell whether the system can."""
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


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files with their names, as hex digits."""
    if path.is_dir():
        lines = "".join(f"{compute_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in list_files(path))
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(folder: Path) -> list[Path]:
    """Return the files in a folder and below, in their order."""
    return sorted(file for file in folder.rglob("*") if file.is_file())
