"""Digests of files, folders and strings."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and contents.

    Parameters
    ----------
    path
        The file or folder.

    Returns
    -------
    str
        64 hex digits.
    """
    if path.is_dir():
        lines = "".join(f"{compute_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in list_files(path))
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compute_md5(path: Path) -> str:
    """Return the MD5 of a file, which DVC uses as a name; it is not a security measure.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        32 hex digits.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def list_files(folder: Path) -> list[Path]:
    """Return all files in a folder and its subfolders, sorted by path."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def digest(strings: Iterable[str]) -> str:
    """Return the SHA-256 of a sequence of strings; boundaries between strings count.

    Parameters
    ----------
    strings
        The strings, in order.

    Returns
    -------
    str
        64 hex digits.
    """
    joined = "".join(f"{len(string)}:{string}" for string in strings)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()
