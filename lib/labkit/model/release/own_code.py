"""The user's own packages that a model needs, and the wheels in which its release carries them.

See `labkit.model.release.release_code` for how they are used where the release predicts.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.features.own_transformers import list_types
from labkit.params.import_path import find_own_package, parse_import_path
from labkit.params.trusted_types import list_trusted_types
from labkit.storage.digests import compute_digest, list_files
from labkit.storage.wheel import derive_version, write_wheel

if TYPE_CHECKING:
    from labkit.params.experiment import Params

SKIPPED = ("__pycache__", ".ipynb_checkpoints")


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
    transformers = list_types({name: one.model_dump(mode="json") for name, one in params.features.transformers.items()})
    return sorted({*transformers, *list_trusted_types(params.training.trusted_types)})


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
        place = find_own_package(name)
        if name not in found and place is not None:
            found[name] = place
            imported = {other for file in list_sources(place) for other in list_imported_names(file)}
            waiting |= {other.partition(".")[0] for other in imported} - {*found}
    return dict(sorted(found.items()))


def list_sources(place: Path) -> list[Path]:
    """Return the Python files of a package, or the file of a module."""
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def list_imported_names(file: Path) -> set[str]:
    """Return the absolute dotted names that a file imports while it runs, anywhere in it; of `from a import b` both."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # a file that nothing imports
        return set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
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
    files = {path: file.read_bytes() for path, file in kept.items()}
    return write_wheel(folder, name, derive_version(files), files=files)
