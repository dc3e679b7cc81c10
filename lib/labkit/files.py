"""How labkit writes a file: beside its place, flushed to the disk, then renamed.

A reader sees the whole old file or the whole new one, also after a crash or on a full disk. Nothing here knows what
is in a file.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it takes the place of `path`, on any error it is removed.

    Its name says whose it is, so that what a killed process leaves can be told from what is being written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{os.getpid()}-", suffix=".part")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files with their names, as hex digits."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{compute_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
