"""What a worker of a Dask cluster does: starts a node as a process, and waits for it.

Imported by every worker, so it imports little itself.
"""

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from labkit.errors import list_briefly

STOP = ".labkit/stop"
"""File of a light checkout that lets its node end."""


def run_node(root: str) -> int:
    """Run a node and return the exit code of its process, which ends with this one.

    Parameters
    ----------
    root
        Its light checkout, which has its task: Dask logs what is given here.
    """
    command = [sys.executable, "-m", "labkit.sweep.node_process", root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        return process.wait()  # the pipe stays open until then


def list_worker_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of labkit and of packages; those that are not installed are left out."""
    found = {"Python": platform.python_version()}
    for name in ("labkit", *packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def find_obstacle(root: str, token: str, versions: Mapping[str, str]) -> str:
    """Return why this worker cannot run nodes of a checkout; empty if it can.

    Parameters
    ----------
    token
        A file, relative to the root, that was written for this check: another checkout does not have it.
    versions
        The versions that a worker must have, see `list_worker_versions`.
    """
    if not (Path(root) / token).is_file():
        is_other = (Path(root) / "dvc.yaml").is_file()
        return f"another checkout at {root}" if is_other else f"no checkout at {root}"
    own = list_worker_versions(versions)
    differing = [
        f"{name} {own.get(name, 'not installed')} (here {version})"
        for name, version in sorted(versions.items())
        if own.get(name) != version
    ]
    return list_briefly(differing, most=3)
