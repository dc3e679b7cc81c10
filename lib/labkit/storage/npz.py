"""Arrays in files: numpy's `.npz`, the same bytes for the same arrays; loading runs no code."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labkit.errors import DataError, MissingDataError
from labkit.storage.atomic import atomic_write


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays of numbers, strings or times; arrays of Python objects are refused."""
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    # A stream, because numpy adds an ending to a path that has another.
    with atomic_write(path) as beside, beside.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **ordered)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that `save_arrays` wrote.

    Raises
    ------
    MissingDataError
        There is no such file.
    DataError
        The file is damaged, or holds Python objects.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not there: run the stage that writes it")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged: remove it and run the stage again") from error
