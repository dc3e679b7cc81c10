"""Arrays as files: numpy's own `.npz`, the same bytes for the same arrays, and nothing run on loading."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labkit.errors import DataError, MissingDataError
from labkit.storage.atomic import atomic_write

EPOCH = (1980, 1, 1, 0, 0, 0)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays of numbers, texts or times, none of Python objects."""
    with atomic_write(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), content.getvalue(), zipfile.ZIP_DEFLATED, 6)


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
