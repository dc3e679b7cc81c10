"""The worktree of a rebuild is made by git."""

import re
import subprocess
from pathlib import Path

import pytest
from labkit.errors import DiskError, StageError
from labkit.reproduction.worktree import call_git_strictly

from tests.git import call_git, commit_all


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with files of 200 kB."""
    root = tmp_path / "repository"
    root.mkdir()
    for number in range(20):
        (root / f"{number}.txt").write_text("x" * 10_000)
    call_git(root, "init", "-q")
    commit_all(root)
    return root


def test_full_disk_is_named(repository: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(
            DiskError, match=rf"disk full: needs more, .* free at {re.escape(str(disk))}/made: free disk"
        ):
            call_git_strictly(repository, ["worktree", "add", "--detach", str(disk / "made"), "HEAD"])
    finally:
        subprocess.run(["umount", disk], check=True)


def test_other_errors_of_git_are_shown(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="git worktree: fatal: invalid reference: nowhere"):
        call_git_strictly(repository, ["worktree", "add", "--detach", str(tmp_path / "made"), "nowhere"])
