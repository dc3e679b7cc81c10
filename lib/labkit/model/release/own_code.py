"""The user's own packages in a release: each a wheel, which the model is run with wherever it is loaded.

A wheel is code, and it is imported only from a release whose digests have been verified. It is used even where another
version of the package can be imported, as when a new model is compared with the champion: while a release predicts, its
own packages take the place of others of the same name.
"""

import ast
import importlib.util
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from labkit import paths
from labkit.errors import ModelError, ParamsError
from labkit.features.own_transformers import list_types
from labkit.params.import_path import parse_import_path
from labkit.storage.digests import compute_digest, digest, list_files
from labkit.storage.wheel import WHEEL, write_wheel

if TYPE_CHECKING:
    from labkit.params.experiment import Params

SKIPPED = ("__pycache__", ".ipynb_checkpoints")
SWITCH = threading.RLock()
"""Held while the packages of a release take the place of others, because the modules of a process are global."""


@dataclass(frozen=True)
class OwnCode:
    """What a release needs of the user's own.

    Attributes
    ----------
    packages
        Folder, or file of a module without a package, by name.
    trusted_types
        Types of the user's own that the params name: the model may contain them.
    needs
        Packages that are needed wherever the model predicts, besides those of every release.
    """

    packages: Mapping[str, Path] = field(default_factory=dict)
    trusted_types: Sequence[str] = ()
    needs: Sequence[str] = ()

    def describe(self, wheels: Sequence[Path]) -> dict[str, Any]:
        """Return this as plain data: packages with name and SHA-256 of their wheels; empty if nothing is needed."""
        packages = {
            name: {"wheel": wheel.name, "sha256": compute_digest(wheel)}
            for name, wheel in zip(self.packages, wheels, strict=True)
        }
        content = {"packages": packages, "trusted_types": [*self.trusted_types], "needs": [*self.needs]}
        return content if any(content.values()) else {}


def find_code(params: "Params") -> OwnCode:
    """Return what a model that was trained with some params needs of the user's own.

    Parameters
    ----------
    params
        Params of the experiment.
    """
    # Imported here: a service that runs a release has no pydantic.
    from labkit.params.section import find_own_code

    packages = find_own_packages(code.text for code in find_own_code(params))
    needs = ("scikit-learn", "skops") if params.features.transformers else ()
    return OwnCode(packages, list_named_types(params), needs)


def list_named_types(params: "Params") -> list[str]:
    """Return the types of the user's own that the params name, which a model may therefore contain."""
    return list_types({name: one.model_dump(mode="json") for name, one in params.features.transformers.items()})


def find_own_packages(import_paths: Iterable[str]) -> dict[str, Path]:
    """Return the packages in the checkout's `lib` folder that import paths name, and those that these import.

    Parameters
    ----------
    import_paths
        Import paths from the params.

    Returns
    -------
    dict of Path
        Folder, or file of a module without a package, by name.
    """
    found: dict[str, Path] = {}
    waiting = {parse_import_path(path)[0].partition(".")[0] for path in import_paths}
    while waiting:
        name = waiting.pop()
        place = find_own(name)
        if name not in found and place is not None:
            found[name] = place
            waiting |= {other for file in list_sources(place) for other in list_imported_packages(file)} - {*found}
    return dict(sorted(found.items()))


def find_own(name: str) -> Path | None:
    """Return the folder or file of a package in the checkout's `lib` folder; None if there is none, or no checkout."""
    try:
        library = paths.find_library_dir()
    except ParamsError:
        return None
    places = (library / name, library / f"{name}.py") if name != "labkit" else ()
    return next((place for place in places if place.exists()), None)


def list_sources(place: Path) -> list[Path]:
    """Return the Python files of a package, or the file of a module."""
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def list_imported_packages(file: Path) -> set[str]:
    """Return the names of the top-level packages that a file imports."""
    found: set[str] = set()
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # a file that nothing imports
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def build_wheels(packages: Mapping[str, Path], folder: Path) -> list[Path]:
    """Write a wheel of each package; the same files give the same bytes.

    Parameters
    ----------
    packages
        See `find_own_packages`.
    folder
        Folder to write to.

    Raises
    ------
    DiskError
        See `labkit.storage.atomic.atomic_write`.
    """
    return [build_wheel(name, place, folder) for name, place in packages.items()]


def build_wheel(name: str, place: Path, folder: Path) -> Path:
    """Write the wheel of one package; its version is a number made from the digest of its files."""
    paths_inside = {file.relative_to(place.parent): file for file in (list_files(place) if place.is_dir() else [place])}
    kept = {path.as_posix(): file for path, file in paths_inside.items() if not {*SKIPPED} & {*path.parts}}
    version = f"0.0.{int(digest(f'{path} {compute_digest(file)}' for path, file in kept.items())[:12], 16)}"
    return write_wheel(folder, name, version, files={path: file.read_bytes() for path, file in kept.items()})


class ReleaseCode:
    """The packages that a release carries, in a folder of their own for as long as this object exists.

    Parameters
    ----------
    wheels
        Wheels of a release that has been verified.

    Attributes
    ----------
    names
        Names of the packages.
    """

    def __init__(self, wheels: Sequence[Path] = ()) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix=".labkit-") if wheels else None
        self.modules: dict[str, ModuleType] = {}
        self.is_active = False
        self.names: frozenset[str] = frozenset()
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(str(self.place))
        if self.place is not None:
            found = [path.name for path in self.place.iterdir() if not path.name.endswith(".dist-info")]
            self.names = frozenset(name.removesuffix(".py") for name in found)

    @property
    def place(self) -> Path | None:
        """The folder of the packages, None if there are none."""
        return None if self.folder is None else Path(self.folder.name)

    def list_places(self) -> list[Path]:
        """Return the folders of the packages, and the files of modules without a package."""
        found = sorted(self.place.iterdir()) if self.place is not None else []
        return [path for path in found if path.stem in self.names]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the release's packages take the place of others of the same name, for the length of a `with` block."""
        if self.place is None:
            yield
            return
        entry = str(self.place)
        with SWITCH:
            if self.is_active:
                yield
                return
            others = remove_modules(self.names)
            sys.modules.update(self.modules)
            sys.path.insert(0, entry)
            self.is_active = True
            try:
                yield
            finally:
                self.is_active = False
                self.modules = remove_modules(self.names)
                sys.path.remove(entry)
                sys.modules.update(others)

    def check_complete(self, columns: Mapping[str, Any], folder: Path) -> None:
        """Raise ModelError if the features of a release need a package that it neither carries nor finds installed.

        Parameters
        ----------
        columns
            `columns` of the release's `labkit.features.row_computation.RowComputation`.
        folder
            The release, for the message.
        """
        specs = [spec for kind in ("functions", "transformers") for spec in (columns.get(kind) or {}).values()]
        for name in sorted({spec["path"].partition(":")[0].partition(".")[0] for spec in specs} - self.names):
            # What lies in `lib` may be another version than the one that the model was trained with.
            if find_own(name) is not None or importlib.util.find_spec(name) is None:
                raise ModelError(
                    f"{folder}: needs the package {name}, which it does not carry: run the stage `deploy` again where "
                    "the model was trained"
                )


def remove_modules(names: Iterable[str]) -> dict[str, ModuleType]:
    """Remove packages from the imported modules and return what was removed."""
    packages = {*names}
    found = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in found}


def list_wheels(folder: Path) -> list[Path]:
    """Return the wheels in a release, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix == WHEEL)
