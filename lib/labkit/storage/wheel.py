"""Writes wheels, without a build tool: archives of a package's files and of its metadata.

Their format: https://packaging.python.org/specifications/binary-distribution-format/. Equal files give equal bytes.
"""

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from labkit.storage.atomic import write_bytes
from labkit.storage.digests import digest

WHEEL = ".whl"
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Time of every file, the earliest that a zip file can hold."""
TAGS = "Wheel-Version: 1.0\nGenerator: labkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(
    folder: Path, name: str, version: str, *, files: Mapping[str, bytes], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a wheel of files that are alike on every system, and return its path.

    Parameters
    ----------
    folder
        Folder for the wheel.
    name
        Name of the package, with `_` for `-`.
    version
        Its version.
    files
        Content by path, with `/`, below the folder that the wheel is installed to.
    metadata
        Content by name of the files in its `.dist-info`; by default only name and version.

    Raises
    ------
    DiskError
        See `labkit.storage.atomic.atomic_write`.
    """
    described = f"{name}-{version}.dist-info"
    known = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        **(metadata or {}),
        "WHEEL": TAGS,
    }
    members = {**files, **{f"{described}/{one}": content.encode() for one, content in known.items()}}
    members[f"{described}/RECORD"] = list_record(members, f"{described}/RECORD")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in members.items():
            entry = zipfile.ZipInfo(path, EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    wheel = folder / name_wheel(name, version)
    write_bytes(wheel, packed.getvalue())
    return wheel


def derive_version(files: Mapping[str, bytes]) -> str:
    """Return the version of a wheel that is a number made from its files.

    >>> derive_version({"shop/__init__.py": b""})
    '0.0.238053784210914'
    """
    listed = (f"{path} {hashlib.sha256(content).hexdigest()}" for path, content in files.items())
    return f"0.0.{int(digest(listed)[:12], 16)}"


def name_wheel(name: str, version: str) -> str:
    """Return the file name of a wheel that `write_wheel` writes."""
    return f"{name}-{version}-py3-none-any{WHEEL}"


def list_record(members: Mapping[str, bytes], itself: str) -> bytes:
    """Return the list of a wheel's files with digests and sizes; its own entry, `itself`, has neither."""
    lines = io.StringIO()
    rows = [(path, f"sha256={encode_digest(content)}", len(content)) for path, content in members.items()]
    csv.writer(lines, lineterminator="\n").writerows([*rows, (itself, "", "")])
    return lines.getvalue().encode()


def encode_digest(content: bytes) -> str:
    """Return the SHA-256 of a file as it is written in RECORD."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
