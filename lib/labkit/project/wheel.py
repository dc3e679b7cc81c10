"""Packs the labkit that runs here into a wheel, wherever it was installed from; needs no build tool and no network."""

import importlib.metadata
import os
from pathlib import Path

from labkit.errors import ParamsError
from labkit.storage.wheel import WHEEL, write_wheel

PACKAGE_DIR = Path(__file__).resolve().parents[1]
METADATA_FILES = ("METADATA", "entry_points.txt", "top_level.txt", "licenses/LICENSE")


def write_labkit_wheel(folder: Path) -> Path:
    """Write a wheel of the running labkit and return its path.

    Parameters
    ----------
    folder
        Folder for the wheel.

    Raises
    ------
    ParamsError
        labkit's metadata cannot be found.
    DiskError
        See `labkit.storage.atomic.atomic_write`.
    """
    metadata = load_metadata()
    return write_wheel(folder, PACKAGE_DIR.name, find_labkit_version(), files=load_package(), metadata=metadata)


def find_labkit_version() -> str:
    """Return the version of the running labkit."""
    return importlib.metadata.version(PACKAGE_DIR.name)


def name_labkit_wheel(version: str) -> str:
    """Return the file name of the wheel of a version."""
    return f"{PACKAGE_DIR.name}-{version}-py3-none-any{WHEEL}"


def load_package() -> dict[str, bytes]:
    """Return the content of each file of the package by its name in a wheel, in a fixed order; links are followed."""
    found = {}
    for folder, folders, files in os.walk(PACKAGE_DIR, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", ".ipynb_checkpoints"))
        for path in (Path(folder) / name for name in sorted(files)):
            found[path.relative_to(PACKAGE_DIR.parent).as_posix()] = path.read_bytes()
    return found


def load_metadata() -> dict[str, str]:
    """Return the files of labkit's metadata, by name."""
    # Beside the sources of a checkout there may be metadata in setuptools' older form, which are not those of a wheel.
    for distribution in importlib.metadata.distributions(name=PACKAGE_DIR.name):
        found = {name: content for name in METADATA_FILES if (content := distribution.read_text(name))}
        if "METADATA" in found:
            break
    else:
        raise ParamsError("labkit is not installed as a package: install it with `make install` or from its wheel")
    return found
