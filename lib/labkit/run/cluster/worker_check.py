"""What a worker of a cluster must have: the same checkout, and the same versions as the client.

Imported by every worker, so it imports little itself.
"""

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from labkit.errors import list_briefly


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
    """Return why this worker cannot work in a checkout; empty if it can.

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
