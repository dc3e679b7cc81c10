"""The part of a lock file that some packages need."""

import importlib.metadata
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labkit.errors import ParamsError

LOCK = "requirements.lock"
START = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^ ;\\]+)", re.MULTILINE)
"""First line of a package in a lock file; its hashes follow."""


def select_locked(path: Path, names: Iterable[str]) -> str:
    """Return the lines of a lock file for packages and for all that they require, in the file's order.

    What is required is read from the installed packages. Conditions on the system or on the version of Python are
    those of the lock, so the selection serves wherever the lock does.

    Parameters
    ----------
    path
        The lock file: pinned versions with hashes.
    names
        Names of packages.

    Raises
    ------
    ParamsError
        There is no lock, a package is not in it, or another version than the locked one is installed.
    """
    if not path.is_file():
        raise ParamsError(f"{path}: not found: make it with `make lock`, then install it with `make install`")
    content = path.read_text(encoding="utf-8")
    starts = list(START.finditer(content))
    ends = [start.start() for start in starts[1:]] + [len(content)]
    # A universal lock has several versions of a package, for different versions of Python.
    blocks = [
        (canonicalize_name(start["name"]), start["version"], content[start.start() : end])
        for start, end in zip(starts, ends, strict=True)
    ]
    needed = find_required(names, {name for name, _, _ in blocks})
    for name in sorted(needed):
        locked, installed = [version for one, version, _ in blocks if one == name], get_installed_version(name)
        if installed is not None and installed not in locked:
            found = " and ".join(locked)
            raise ParamsError(f"{path.name} has {name} {found}, installed is {installed}: run `make install`")
    return "".join(block for name, _, block in blocks if name in needed)


def find_required(names: Iterable[str], locked: Collection[str]) -> set[str]:
    """Return packages and all that they require, directly or not, as far as it is locked."""
    waiting = [Requirement(name) for name in names]
    found: set[str] = set()
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name: str = canonicalize_name(requirement.name)
        if name not in locked:
            raise ParamsError(f"{LOCK} does not have {name}, which a service needs: run `make lock`")
        if (name, key := frozenset(requirement.extras)) in done:
            continue
        done.add((name, key))
        found.add(name)
        waiting += [one for one in list_dependencies(name, {*requirement.extras}) if is_locked(one, locked)]
    return found


def is_locked(requirement: Requirement, locked: Collection[str]) -> bool:
    """Return whether a package is in the lock; one that no supported system needs is not."""
    return canonicalize_name(requirement.name) in locked


def list_dependencies(name: str, extras: set[str]) -> list[Requirement]:
    """Return what an installed package requires, on any system, for the extras that are asked for."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # of another system
        return []
    found = map(Requirement, lines)
    return [one for one in found if "extra ==" not in str(one.marker or "") or is_asked(one, extras)]


def is_asked(requirement: Requirement, extras: set[str]) -> bool:
    """Return whether a requirement applies for one of the extras."""
    return requirement.marker is not None and any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def get_installed_version(name: str) -> str | None:
    """Return the installed version of a package; None if it is not installed, like those of other systems."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
