"""A checkout of the code of a run: a git worktree outside of this checkout, with patch and params of the run."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labkit import paths
from labkit.errors import DiskError, ParamsError, StageError, shorten
from labkit.reproduction.recorded_run import RecordedRun
from labkit.run.records.changes import call_git
from labkit.storage.atomic import copy_file, write_bytes, write_text
from labkit.storage.disk import describe_full

NO_SPACE = ("No space left on device", "unable to write file", "Disk quota exceeded")
"""What git prints if the disk is full."""
LONGEST_PROBLEM = 300
OWN_CACHE = "[cache]\n    dir = cache\n"
"""DVC's configuration: another cache may hold what the run wrote, which would be restored instead of made again."""


def check_commit(run: RecordedRun) -> None:
    """Raise an error if the commit of a run is not in this repository.

    Raises
    ------
    ParamsError
        It is not.
    """
    root, commit = paths.find_root(), str(run.commit)
    if call_git(root, ["cat-file", "-e", f"{commit}^{{commit}}"]) is None:
        origin = run.record["code"].get("origin")
        remedy = f"git fetch {origin} {commit}" if origin else "fetch it with git from the clone that made the run"
        raise ParamsError(f"run {run.name}: its commit {commit} is not in this repository: {remedy}")


def check_outside(folder: Path) -> Path:
    """Return the absolute path of a folder that is not in this checkout.

    Raises
    ------
    ParamsError
        It is: what is in it would count as changes of the checkout.
    """
    folder = folder.resolve()
    if folder.is_relative_to(paths.find_root().resolve()):
        raise ParamsError(f"--to {folder}: inside of the checkout: name a folder outside of it")
    return folder


def make_worktree(run: RecordedRun, folder: Path) -> Path:
    """Make a worktree with the code and the params of a run, and return its part that is the checkout.

    Parameters
    ----------
    folder
        Where it is made; what is left there of an earlier attempt is removed.

    Raises
    ------
    MissingDataError
        Patch or params are no longer stored.
    ParamsError
        The patch does not fit.
    StageError, DiskError
        git failed.
    """
    patch, params = run.load_patch(), run.load_params()
    root = paths.find_root()
    remove_worktree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    call_git_strictly(
        root, ["worktree", "add", "--force", "--detach", "--no-guess-remote", str(folder), str(run.commit)]
    )
    inside = folder / find_prefix(root)
    if patch:
        apply_patch(inside, patch, run)
    write_bytes(inside / "params" / f"{run.experiment}.yaml", params)
    for name in ("config", ".gitignore"):
        if not (inside / ".dvc" / name).exists() and (root / ".dvc" / name).is_file():
            copy_file(root / ".dvc" / name, inside / ".dvc" / name)
    write_text(inside / ".dvc" / "config.local", OWN_CACHE)
    (inside / "dvc.lock").unlink(missing_ok=True)
    return inside


def find_prefix(root: Path) -> str:
    """Return the path of a checkout below the top of its repository, empty if it is the top."""
    return os.fsdecode(call_git(root, ["rev-parse", "--show-prefix"]) or b"").strip("\n")


def apply_patch(folder: Path, patch: bytes, run: RecordedRun) -> None:
    """Apply the patch of the uncommitted code.

    Raises
    ------
    ParamsError
        It does not fit the commit.
    """
    path = folder / ".labkit" / "changes.diff"
    write_bytes(path, patch)
    try:
        call_git_strictly(folder, ["apply", "--whitespace=nowarn", str(path)])
    except StageError as error:
        raise ParamsError(
            f"run {run.name}: the patch of its uncommitted code does not fit its commit: {error}"
        ) from error


def remove_worktree(folder: Path) -> None:
    """Remove a worktree, or what is left of one."""
    if folder.exists():
        call_git(paths.find_root(), ["worktree", "remove", "--force", "--force", str(folder)])
        shutil.rmtree(folder, ignore_errors=True)


def call_git_strictly(root: Path, words: Sequence[str]) -> None:
    """Run git, without hooks.

    Raises
    ------
    DiskError
        The disk is full.
    StageError
        It failed otherwise, or is not installed.
    """
    command = ["git", "-C", str(root), "-c", f"core.hooksPath={os.devnull}", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, env={**paths.copy_environment(), "LC_ALL": "C"}, check=False
        )
    except FileNotFoundError as error:
        raise StageError("git is not installed, or not on PATH") from error
    problem = done.stderr.decode(errors="replace").strip()
    if done.returncode and any(printed in problem for printed in NO_SPACE):
        raise DiskError(describe_full(Path(words[-2]) if words[0] == "worktree" else root, "more"))
    if done.returncode:
        raise StageError(f"git {words[0]}: {shorten(' '.join(problem.split()), LONGEST_PROBLEM)}")
