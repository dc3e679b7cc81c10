"""Comparison of the installed packages with `requirements.lock`, and the packages that a stage imports.

Reads names and versions from the metadata of installed packages; imports none of them.
"""

import functools
import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from labkit import paths
from labkit.errors import ParamsError, list_briefly
from labkit.run.fingerprint.code_cache import CodeCache
from labkit.run.fingerprint.import_graph import LABKIT, Checkout, Finder, list_folders

LOCK_FILE = "requirements.lock"
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(?:;\s*([^\\]*?))?\s*\\?")
DATABASE = "Topic :: Database"
REMEDY = f"uv pip install --require-hashes -r {LOCK_FILE}"


@dataclass(frozen=True)
class Installed:
    """One installed package: its version and its metadata folder."""

    version: str
    folder: Path


def check_environment(notebooks: Iterable[Path], *, is_locked: bool, warn: Callable[[str], None]) -> dict[str, str]:
    """Warn about packages that differ from the lock, and return them.

    Parameters
    ----------
    notebooks
        The notebooks that are going to run.
    is_locked
        Raise an error instead of warning.

    Raises
    ------
    ParamsError
        Packages differ and `is_locked` is set; or the lock pins no package.
    """
    if is_locked and not load_lock():
        raise ParamsError(f"--locked: {LOCK_FILE} pins no package: restore it from git, or run without --locked")
    checkout = Checkout(paths.find_root())
    files = {checkout.show(file) for path in notebooks for file in checkout.find_closure(path)}
    found = find_wrong_versions() | find_packages({"": files})[""]
    if not found:
        return {}
    listed = list_briefly([f"{name} {what}" for name, what in sorted(found.items())], most=5)
    if is_locked:
        raise ParamsError(f"the packages are not those of {LOCK_FILE}: {listed}: {REMEDY}; nothing was run")
    warn(f"warning: the packages are not those of {LOCK_FILE}: {listed}; {REMEDY}")
    return found


def find_wrong_versions() -> dict[str, str]:
    """Return the locked packages that are installed in another version, with both versions in words."""
    return {
        name: f"{found.version} (locked {locked})"
        for name, locked in load_lock().items()
        if (found := list_installed_packages().get(name)) and not is_same(found.version, locked)
    }


def find_packages(stages: Mapping[str, Iterable[str]]) -> dict[str, dict[str, str]]:
    """Return for each stage the packages that its code needs and that differ from the lock, and how.

    Parameters
    ----------
    stages
        The files that each stage imports, relative to the checkout's root or from `labkit/` on.
    """
    lock, root = load_lock(), paths.find_root().resolve()
    if not lock:
        return {stage: {} for stage in stages}
    meanings, finder = CodeCache(root), Finder(list_folders(root))
    found = {}
    for stage, files in stages.items():
        imported = {name for file in files for name in list_imported(file, meanings)}
        found[stage] = compare_packages({name for name in imported if not is_local_module(name, finder)}, lock)
    meanings.save()
    return found


def list_imported(file: str, meanings: CodeCache) -> set[str]:
    """Return the top-level modules that a source file imports, without the standard library and labkit."""
    path = (LABKIT.parent if file.startswith(f"{LABKIT.name}/") else paths.find_root()) / file
    if path.suffix not in (".py", ".ipynb") or not path.is_file():
        return set()
    modules = {one.module.partition(".")[0] for one in meanings.get(path).imports if not one.level}
    return modules - {*sys.stdlib_module_names, LABKIT.name, ""}


def compare_packages(imported: Iterable[str], lock: Mapping[str, str]) -> dict[str, str]:
    """Return the packages of some modules, and their requirements, that differ from the lock."""
    distributions = {name for module in imported for name in find_distributions(module)}
    found = {
        name: f"{list_installed_packages()[name].version} (not locked)" for name in distributions if name not in lock
    }
    for module in imported:
        name = canonicalize_name(module)
        if name in lock and name not in list_installed_packages():
            found[name] = f"not installed (locked {lock[name]})"
    if wrong := find_wrong_versions():
        needed = find_needed(distributions)
        found |= {name: what for name, what in wrong.items() if name in needed}
    return dict(sorted(found.items()))


def is_local_module(module: str, finder: Finder) -> bool:
    """Return whether a module is in the checkout; a folder without `__init__.py` yields to an installed package."""
    location = finder.find(module)
    return location is not None and (
        location.file is not None or canonicalize_name(module) not in list_installed_packages()
    )


@functools.cache
def parse_lock(content: str) -> Mapping[str, str]:
    """Return the version that a lock pins for each package on this Python and this system."""
    pins = [found for line in content.splitlines() if (found := PIN.fullmatch(line.strip()))]
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if not pin[3] or Marker(pin[3]).evaluate({"extra": ""})}


def load_lock() -> Mapping[str, str]:
    """Return the version that the checkout's lock pins for each package, empty without a lock."""
    path = paths.find_root() / LOCK_FILE
    return parse_lock(path.read_text(encoding="utf-8")) if path.is_file() else {}


@functools.cache
def list_installed_packages() -> Mapping[str, Installed]:
    """Return the installed packages by name; as in an import, the first on `sys.path` counts."""
    found: dict[str, Installed] = {}
    for entry in sys.path:
        folder = Path(entry) if entry else Path.cwd()
        for place in sorted(folder.glob("*.dist-info")) if folder.is_dir() else []:
            name, _, version = place.name.removesuffix(".dist-info").rpartition("-")
            found.setdefault(canonicalize_name(name), Installed(version, place))
    return found


@functools.cache
def map_modules() -> Mapping[str, frozenset[str]]:
    """Return the packages that provide each top-level module."""
    found: dict[str, set[str]] = {}
    for name, installed in list_installed_packages().items():
        named, record = installed.folder / "top_level.txt", installed.folder / "RECORD"
        if named.is_file():
            modules = set(named.read_text(encoding="utf-8", errors="replace").split())
        elif record.is_file():
            lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
            modules = {line.partition(",")[0].partition("/")[0].removesuffix(".py") for line in lines}
        else:
            modules = set()
        for module in modules:
            found.setdefault(module, set()).add(name)
    return {module: frozenset(names) for module, names in found.items()}


def find_distributions(module: str) -> frozenset[str]:
    """Return the installed packages that provide a top-level module."""
    name = canonicalize_name(module)
    return frozenset([name]) if name in list_installed_packages() else map_modules().get(module, frozenset())


def find_database_packages(modules: Iterable[str]) -> set[str]:
    """Return the installed packages of some top-level modules that classify themselves as database packages."""
    names = {name for module in {*modules} - sys.stdlib_module_names for name in find_distributions(module)}
    return {name for name in names & {*list_installed_packages()} if is_for_databases(name)}


@functools.cache
def is_for_databases(name: str) -> bool:
    """Return whether an installed package classifies itself as a database package."""
    described = importlib.metadata.PathDistribution(list_installed_packages()[name].folder).metadata
    return any(one.startswith(DATABASE) for one in described.get_all("Classifier") or ())


def find_needed(names: Iterable[str]) -> set[str]:
    """Return packages and all their installed requirements, direct and indirect."""
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in names]
    found: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        if one not in found and one[0] in list_installed_packages():
            found.add(one)
            waiting += list_required(*one)
    return {name for name, _ in found}


def list_required(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the requirements of an installed package on this system, with their extras."""
    for requirement in importlib.metadata.PathDistribution(list_installed_packages()[name].folder).requires or []:
        try:
            needed = Requirement(requirement)
        except InvalidRequirement:
            continue
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(needed.name), frozenset(needed.extras)


def is_same(one: str, other: str) -> bool:
    """Return whether two versions are equal.

    >>> is_same("4.7", "4.7.0"), is_same("4.5.0", "4.7.0")
    (True, False)
    """
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
