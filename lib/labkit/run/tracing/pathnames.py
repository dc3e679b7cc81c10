"""Paths as strings: the folder of a glob pattern, and the paths named by a command."""

import os
import shlex
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

MAGIC = frozenset("*?[")
OWN = (".git/", ".labkit/", ".dvc/", "reports/", "mlruns/", "mlflow.db", "dvc.lock")
"""Files of labkit, git, DVC and MLflow in the checkout: no stage depends on them."""
SYSTEM = ("/bin/", "/dev/", "/etc/", "/lib/", "/nix/", "/proc/", "/run/", "/sys/", "/usr/", "/System/", "/Library/")
"""Folders of the system, which hold no data of stages."""


def list_installed_folders() -> list[str]:
    """Return the folders of Python and of installed packages, which the lock describes."""
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()]
    real = [*found, *(os.path.realpath(folder) for folder in found)]
    return [*dict.fromkeys(f"{folder}{os.sep}" for folder in real if folder)]


def decode(path: Any) -> str | None:
    """Return a path as a string, None for other values, such as a file descriptor."""
    if isinstance(path, int) or path is None:
        return None
    return os.fsdecode(path)


def locate_name(name: Any, folder: int = -1) -> str | None:
    """Return the absolute path of a name, which may be relative to an open folder; None for a file descriptor."""
    decoded = decode(name)
    if decoded is None:
        return None
    return os.path.abspath(decoded if folder < 0 else os.path.join(os.readlink(f"/proc/self/fd/{folder}"), decoded))


def escape_pattern(folder: str) -> str:
    """Return a pattern that matches only this folder."""
    return "".join(f"[{character}]" if character in MAGIC else character for character in folder)


def split_pattern(pattern: str) -> tuple[str, str]:
    """Split a pattern into the folder to search and the rest.

    >>> split_pattern("../plug*/*.py")
    ('..', 'plug*/*.py')
    >>> split_pattern("rates.csv")
    ('', 'rates.csv')
    """
    parts = pattern.split(os.sep)
    wild = [number for number, part in enumerate(parts) if not MAGIC.isdisjoint(part)]
    first = wild[0] if wild else len(parts) - 1
    return os.sep.join(parts[:first]) or (os.sep if pattern.startswith(os.sep) else ""), os.sep.join(parts[first:])


def list_arguments(arguments: list[str], folder: str) -> Iterator[str]:
    """Yield the paths that the arguments of a command may name, including modules after `-m`."""
    words = [word for argument in arguments for word in split_command(argument)]
    for before, word in zip(["", *words], words, strict=False):
        path = os.path.normpath(os.path.join(folder, word))
        yield path
        if before == "-m":
            inner = os.path.join(folder, *word.split("."))
            yield from (f"{inner}.py", os.path.join(inner, "__main__.py"), os.path.join(inner, "__init__.py"))


def split_command(command: str) -> list[str]:
    """Return a command line and its words."""
    try:
        return [command, *shlex.split(command, comments=True)]
    except ValueError:  # an open quote
        return [command, *command.split()]
