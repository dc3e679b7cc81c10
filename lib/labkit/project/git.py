"""Runs git in the folder of a project, whatever repository the environment names."""

import subprocess
from pathlib import Path

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError

REPOSITORY_VARIABLES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"})


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder and return how it ended."""
    environment = {key: value for key, value in paths.copy_environment().items() if key not in REPOSITORY_VARIABLES}
    return subprocess.run(
        ["git", "-c", "user.useConfigOnly=true", "-C", str(folder), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def call_project_git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return its output; raise ParamsError if it fails."""
    done = run_git(folder, *arguments)
    if done.returncode:
        raise ParamsError(f"git {arguments[0]} failed: {make_printable(done.stderr.strip())}")
    return done.stdout


def find_repository(folder: Path) -> str | None:
    """Return the repository that a folder is in, None if it is in none."""
    done = run_git(folder, "rev-parse", "--show-toplevel")
    if not done.returncode:
        return done.stdout.strip()
    # Inside of .git, or of a bare repository, there is no top level.
    done = run_git(folder, "rev-parse", "--absolute-git-dir")
    return None if done.returncode else done.stdout.strip()
