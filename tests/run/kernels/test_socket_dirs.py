"""Folders for sockets: nothing stays of them, whatever way their owner ends, and a living owner keeps its own."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit.run.kernels import socket_dirs

OWN = """
import sys
from labkit.run.kernels import socket_dirs
print(socket_dirs.make_folder(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def owner(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has a folder, which is old enough to be somebody's."""
    with subprocess.Popen(
        [sys.executable, "-c", OWN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.folder = Path(process.stdout.readline().strip())
        old = time.time() - 60
        os.utime(process.folder / socket_dirs.OWNER, (old, old))
        yield process
        process.kill()


def test_folder_is_private_and_goes_with_all_in_it(place: Path) -> None:
    folder = socket_dirs.make_folder()
    assert folder.parent == place
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "socket").touch()
    socket_dirs.remove_folder(folder)
    assert list(place.iterdir()) == []
    assert folder not in socket_dirs.held


@pytest.mark.fault
def test_folder_of_a_killed_process_is_removed_by_the_next_process(owner: "subprocess.Popen[str]") -> None:
    (owner.folder / "kernel-1").touch()
    owner.kill()
    owner.wait()
    assert owner.folder.exists()
    made = socket_dirs.make_folder()
    assert not owner.folder.exists()
    socket_dirs.remove_folder(made)


def test_folder_of_a_living_process_stays(owner: "subprocess.Popen[str]") -> None:
    socket_dirs.remove_folder(socket_dirs.make_folder())
    assert owner.folder.exists()


def test_folder_that_is_just_being_made_stays(owner: "subprocess.Popen[str]") -> None:
    os.utime(owner.folder / socket_dirs.OWNER)
    owner.kill()
    owner.wait()
    socket_dirs.remove_folder(socket_dirs.make_folder())
    assert owner.folder.exists()
