"""The files that the params name as raw tables: where they lie, and their digests.

Not how they are read: that is `labkit.data.sources`. Imports nothing heavy, because every run begins here.
"""

import importlib.util
from pathlib import Path

from labkit import paths
from labkit.errors import MissingDataError, ParamsError, name_nearest
from labkit.files import compute_digest
from labkit.params import Data, Table


def find_file(name: str, table: Table) -> Path:
    """Return the file of a table: in the checkout, or in the installed package that ships it."""
    folder = paths.find_root()
    if table.package:
        # Found, not imported: a package of data may need what is not installed.
        try:
            spec = importlib.util.find_spec(table.package)
        except (ImportError, ValueError):  # a part of a dotted name is not there, or it is no name
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise MissingDataError(f"data.tables.{name}: package {table.package} is not installed: pip install it")
        folder = Path(spec.submodule_search_locations[0])
    path = (folder / str(table.path)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ParamsError(f"data.tables.{name}.path: {table.path} leads out of {folder}: name a file inside it")
    if not path.is_file():
        names = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        raise MissingDataError(f"data.tables.{name}: no file {path}: {name_nearest(path.name, names)}")
    return path


def compute_digests(data: Data) -> dict[str, str]:
    """Return the SHA-256 of every file that the params name, by table.

    Raises
    ------
    MissingDataError
        A file or package is not there.
    """
    return {name: compute_digest(find_file(name, table)) for name, table in data.tables.items() if table.path}
