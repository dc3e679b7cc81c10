"""Arrays in numpy's `.npz` files: equal arrays give equal bytes, and loading runs no code."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labkit.errors import DataError, MissingDataError
from labkit.storage.atomic import atomic_write


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, atomically.

    Parameters
    ----------
    path
        The file to write.
    arrays
        Arrays of numbers, strings or times.

    Raises
    ------
    ValueError
        An array holds Python objects.
    DiskError
        The disk is full or broken, or the file cannot be written.
    """
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    # A stream, because numpy appends .npz to a path with another ending.
    with atomic_write(path) as beside, beside.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **ordered)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays written by `save_arrays`.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    MissingDataError
        The file does not exist.
    DataError
        The file is damaged, or contains Python objects.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not found: run the stage that writes it")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged: remove it and run the stage again") from error
