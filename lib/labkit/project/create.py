"""Create a project: a git repository rendered from the template, with labkit's wheel and a first commit, or nothing.

Everything is made in a folder beside, which takes the place of the project's folder as the last step.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError
from labkit.new.create import NewExperiment, create_experiment
from labkit.new.options import Choices
from labkit.project.package_name import check_package_name, make_package_name
from labkit.project.template import render_template
from labkit.project.wheel import find_labkit_version, load_package, write_wheel
from labkit.storage.atomic import atomic_folder

WHEELS = "wheels"
"""Folder of a project that holds labkit."""


@dataclass(frozen=True)
class NewProject:
    """A new project: its folder, its experiment if it was made from a table, and why nothing is committed, if so."""

    folder: Path
    name: str
    made: NewExperiment | None
    uncommitted: str


def create_project(
    folder: Path,
    *,
    name: str | None = None,
    data: Sequence[Path] = (),
    target: str = "",
    report: Callable[[str], None] = lambda message: None,
) -> NewProject:
    """Create a project in a new or empty folder.

    Parameters
    ----------
    folder
        The project's folder.
    name
        Name of the project's package and experiment; the folder's if not given.
    data
        Files of the table to begin with; without them, the project begins with the experiment `diabetes`.
    target
        Column of that table to predict.
    report
        Called with messages on the way.

    Raises
    ------
    ParamsError
        git is missing, the folder or the name cannot be used, or a file or column cannot; nothing is left behind.
    DataError
        The table cannot be read or learned from; nothing is left behind.
    DiskError
        The disk is full; nothing is left behind.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  # links in it are kept
    check_folder(folder)
    name = check_package_name(name or make_package_name(folder))
    files = [Path(os.path.abspath(path)) for path in data]  # noqa: PTH100
    made = None
    with atomic_folder(folder) as beside:
        answers: dict[str, str | bool] = {"name": name, "version": find_labkit_version(), "has_example": not files}
        render_template(beside, answers, files=load_package())
        write_wheel(beside / WHEELS)
        call_project_git(beside, "init", "--quiet", "--initial-branch=main")
        if files:
            with paths.use_root(beside):
                made = create_experiment(name, files, target, choices=Choices(), report=report)
        call_project_git(beside, "add", "--all")
        uncommitted = commit(beside, f"Start {name} from labkit {find_labkit_version()}")
        shutil.rmtree(beside / ".labkit", ignore_errors=True)
        shutil.rmtree(beside / ".dvc" / "tmp", ignore_errors=True)
    return NewProject(folder, name, made, uncommitted)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no project can be made."""
    shown = make_printable(str(folder))
    if not shutil.which("git"):
        raise ParamsError("git is not installed, which a project needs: install it from your distribution")
    if not folder.parent.is_dir():
        raise ParamsError(f"{make_printable(str(folder.parent))}: no such folder: make it first")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ParamsError(f"{shown}: not a folder: name a new one, or an empty one")
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise ParamsError(f"{make_printable(str(folder.parent))}: no permission to write there: name another folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ParamsError(f"{shown}: not empty: name a new folder, or an empty one")


def call_project_git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, whatever repository the environment names, and return its output."""
    done = run_git(folder, *arguments)
    if done.returncode:
        raise ParamsError(f"git {arguments[0]} failed: {make_printable(done.stderr.strip())}")
    return done.stdout


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder and return how it ended."""
    own = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
    environment = {key: value for key, value in paths.copy_environment().items() if key not in own}
    command = ["git", "-c", "user.useConfigOnly=true", "-C", str(folder), *arguments]
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def commit(folder: Path, subject: str) -> str:
    """Commit what is staged; return why that was not possible, empty if it was."""
    if any(run_git(folder, "var", identity).returncode for identity in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")):
        return "git does not know who you are: git config --global user.name NAME, and user.email ADDRESS"
    done = run_git(folder, "commit", "--quiet", "--message", subject)
    return make_printable((done.stderr or done.stdout).strip()) if done.returncode else ""
