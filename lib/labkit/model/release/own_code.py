"""The user's own packages that a model needs, and the wheels in which its release carries them.

See `labkit.model.release.release_code` for how they are used where the release predicts.
"""

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distributions
from importlib.util import find_spec
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
ALWAYS = ("numpy", "onnxruntime")
"""Packages that every release needs."""


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
        Packages to install wherever the model predicts, besides those of every release, e.g. those that the modules of
        own features import.
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
    features = params.features
    named = [*features.functions.values(), *(one.path for one in features.transformers.values())]
    imported = list_libraries(parse_import_path(path)[0] for path in named)
    needs = {*imported, *(("scikit-learn", "skops") if features.transformers else ())} - {*ALWAYS}
    return OwnCode(packages, list_named_types(params), sorted(needs))


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


def list_libraries(modules: Iterable[str]) -> list[str]:
    """Return the installed packages that some modules belong to, or import directly or through the user's own modules.

    Parameters
    ----------
    modules
        Dotted names. Only modules in the checkout's `lib` folder are read for what they import.

    Returns
    -------
    list of str
        Names under which they are installed, e.g. `scikit-learn`; without labkit.
    """
    waiting = {*modules}
    seen: set[str] = set()
    tops: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        place = find_own_package(name.partition(".")[0])
        if place is None:
            tops.add(name.partition(".")[0])
        elif (file := find_source(place, name)) is not None:
            waiting |= (
                {*list_imported_names(file, package=name_package(file, place)), name.rpartition(".")[0]} - seen - {""}
            )
    foreign = tops - {"labkit", *sys.stdlib_module_names}
    return sorted({name for top in foreign for name in name_distributions(top)})


def find_source(place: Path, module: str) -> Path | None:
    """Return the file of a module of the user's own, if it is a module."""
    inside = place.parent.joinpath(*module.split("."))
    return next((file for file in (inside.with_suffix(".py"), inside / "__init__.py") if file.is_file()), None)


def name_package(file: Path, place: Path) -> str:
    """Return the dotted name of the package that a file of the user's own is in."""
    return ".".join(file.relative_to(place.parent).parent.parts)


def list_sources(place: Path) -> list[Path]:
    """Return the Python files of a package, or the file of a module."""
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def list_imported_names(file: Path, *, package: str = "") -> set[str]:
    """Return the dotted names that a file imports while it runs, anywhere in it; of `from a import b` both.

    Parameters
    ----------
    package
        Package of the file, by which relative names are resolved; without it they are left out.
    """
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
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{one.name}" for one in node.names)}
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


def name_distributions(package: str) -> list[str]:
    """Return the names under which a package is installed, e.g. xgboost-cpu of xgboost."""
    # `packages_distributions` also reads the metadata of checkouts, on which no stage must depend.
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]
    found = []
    for one in distributions(path=[str(folder)]):
        declared = (one.read_text("top_level.txt") or "").split()
        inferred = () if declared else (file.parts[0] for file in one.files or ())
        if package in declared or package in inferred:
            found.append(one.name)
    return sorted({*found})
