"""Locate the files that the params declare as raw tables, and compute their digests.

For reading them, see `labkit.data.reading.raw_table`. Imports are kept light, because every run starts here.
"""

import importlib.util
import re
from pathlib import Path

from labkit import paths
from labkit.errors import DataError, MissingDataError, ParamsError, name_nearest
from labkit.params.tables import Data, Table
from labkit.storage.digests import compute_digest, compute_md5


def name_path(path: Path) -> str:
    """Return a path relative to the checkout; unchanged if it lies outside."""
    root = paths.find_root().resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def find_files(name: str, table: Table) -> list[Path]:
    """Return the files of a table: in the checkout, or in the installed package that ships them.

    Raises
    ------
    MissingDataError
        A file or package does not exist.
    ParamsError
        A path leads out of the checkout or package, or is a URL.
    """
    folder = find_package(name, table.package) if table.package else paths.find_root()
    return [find_file(name, file, folder) for file in table.files]


def find_package(name: str, package: str) -> Path:
    """Return the directory of an installed package."""
    # Located without importing it: a data package may have dependencies that are not installed.
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # part of a dotted name does not exist, or it is not a valid name
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingDataError(f"data.tables.{name}: package {package} is not installed: pip install it")
    return Path(spec.submodule_search_locations[0])


def find_file(name: str, file: str, folder: Path) -> Path:
    """Return the path of one file of a table inside a directory."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", file):
        raise ParamsError(f"data.tables.{name}.path: {file} is a URL: download it, and name the file")
    path = (folder / file).resolve()
    # What a light checkout has may be links into the checkout that it was made from.
    homes = {folder, paths.find_code_root() if folder == paths.find_root() else folder}
    if not any(path.is_relative_to(home.resolve()) for home in homes):
        raise ParamsError(f"data.tables.{name}.path: {file} is outside of {folder}: name a file inside it")
    if path.is_file():
        return path
    if path.with_name(f"{path.name}.dvc").is_file():
        raise MissingDataError(f"data.tables.{name}: {file} is not here, only its DVC pointer: run `dvc pull`")
    if path.exists():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise MissingDataError(f"data.tables.{name}: no file {path}: it is {kind}: name a file")
    names = [near.name for near in path.parent.glob("*")] if path.parent.is_dir() else []
    raise MissingDataError(f"data.tables.{name}: no file {path}: {name_nearest(path.name, names)}")


def check_pointer(path: Path) -> None:
    """Reject a file that differs from the DVC pointer next to it: incomplete, or changed by accident.

    Raises
    ------
    DataError
        The MD5 of the file differs from that in the pointer.
    """
    pointer = path.with_name(f"{path.name}.dvc")
    if not pointer.is_file():
        return
    agreed = re.search(r"^- md5: ([0-9a-f]{32})$", pointer.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if agreed is None:
        return
    found = compute_md5(path)
    if found != agreed[1]:
        raise DataError(
            f"{name_path(path)} is not the file of {pointer.name} (MD5 {found[:8]}…, expected {agreed[1][:8]}…): "
            f"`dvc checkout {name_path(pointer)}` restores that one, `dvc add {name_path(path)}` accepts this one"
        )


def compute_digests(data: Data) -> dict[str, str]:
    """Return the SHA-256 of every declared file, by table name, or `table: path` if a table has several.

    Raises
    ------
    MissingDataError
        A file or package does not exist.
    ParamsError
        A path leads out of the checkout or package, or is a URL.
    """
    found = {}
    for name, table in data.tables.items():
        for file, path in zip(table.files, find_files(name, table), strict=True):
            found[name if len(table.files) == 1 else f"{name}: {file}"] = compute_digest(path)
    return found
