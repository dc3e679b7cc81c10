"""Packs the labkit that runs here into a wheel, wherever it was installed from; needs no build tool and no network.

A wheel is an archive of the package's files and of its metadata: https://packaging.python.org/specifications/binary-distribution-format/
"""

import base64
import hashlib
import importlib.metadata
import io
import os
import zipfile
from pathlib import Path

from labkit.errors import ParamsError
from labkit.storage.atomic import write_bytes

PACKAGE_DIR = Path(__file__).resolve().parents[1]
METADATA_FILES = ("METADATA", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
WHEEL = "Wheel-Version: 1.0\nGenerator: labkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Time of every file, so that equal contents make equal wheels."""


def write_wheel(folder: Path) -> Path:
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
    version = find_labkit_version()
    described = f"{PACKAGE_DIR.name}-{version}.dist-info"
    members = load_package()
    members |= {f"{described}/{name}": content.encode() for name, content in load_metadata().items()}
    record = [f"{name},sha256={encode_digest(content)},{len(content)}" for name, content in members.items()]
    members[f"{described}/RECORD"] = "\n".join([*record, f"{described}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    path = folder / f"{PACKAGE_DIR.name}-{version}-py3-none-any.whl"
    write_bytes(path, packed.getvalue())
    return path


def find_labkit_version() -> str:
    """Return the version of the running labkit."""
    return importlib.metadata.version(PACKAGE_DIR.name)


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
    distribution = importlib.metadata.distribution(PACKAGE_DIR.name)
    found = {name: content for name in METADATA_FILES if (content := distribution.read_text(name))}
    if "METADATA" not in found:
        raise ParamsError("labkit is not installed as a package: install it with `make install` or from its wheel")
    return {**found, "WHEEL": WHEEL}


def encode_digest(content: bytes) -> str:
    """Return the SHA-256 of a file as it is written in RECORD."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
