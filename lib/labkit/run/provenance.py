"""What a run is made of: the code's commit, the lock, Python, the machine.

Read only, and light: nothing heavy is imported for it. Where it is kept: `labkit.run.ledger` and
`labkit.run.tracking`.
"""

import importlib.metadata
import platform
import subprocess
from typing import Any

from labkit import paths
from labkit.files import compute_digest


def find_commit() -> tuple[str | None, bool]:
    """Return the checkout's git commit, or None outside of git, and whether tracked files differ from it."""
    command = ["git", "-C", str(paths.find_root())]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        status = [*command, "status", "--porcelain", "--untracked-files=no"]
        changes = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return commit.strip(), bool(changes.strip())


def collect() -> dict[str, Any]:
    """Return what is true of every run now; what there is not is left out."""
    commit, is_dirty = find_commit()
    lock = paths.find_root() / "requirements.lock"
    found: dict[str, Any] = {
        "labkit": importlib.metadata.version("labkit"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if lock.is_file():
        found["lock_sha256"] = compute_digest(lock)
    if commit:
        found |= {"commit": commit, "is_dirty": is_dirty}
    return found
