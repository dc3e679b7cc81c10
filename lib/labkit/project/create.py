"""Create a project: a git repository rendered from the template, with labkit's wheel and a first commit, or nothing.

Everything is made in a folder beside, which takes the place of the project's folder as the last step.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError
from labkit.new.create import create_experiment
from labkit.new.inspect import Survey
from labkit.new.options import Choices
from labkit.new.proposal import Proposal
from labkit.project.example import CHOLESTEROL, Example, add_example, choose_example
from labkit.project.git import call_project_git, find_repository, run_git
from labkit.project.package_name import check_package_name, make_package_name
from labkit.project.template import list_project_notebooks, render_template
from labkit.project.wheel import find_labkit_version, load_package, write_labkit_wheel
from labkit.storage.atomic import atomic_folder, write_bytes

WHEELS = "wheels"
"""Folder of a project that holds labkit."""
EXAMPLE_EXPERIMENT = "diabetes"
"""The experiment of a project without a table of its own."""


@dataclass(frozen=True)
class NewProject:
    """A new project.

    Attributes
    ----------
    folder
        Its folder.
    experiment
        Its first experiment.
    example
        The example feature.
    uncommitted
        Why nothing is committed, and what to do about it; empty if it is.
    """

    folder: Path
    experiment: str
    example: Example
    uncommitted: str


def create_project(
    folder: Path,
    *,
    name: str | None = None,
    data: Sequence[Path] = (),
    target: str = "",
    show: Callable[[Survey, Proposal], bool] = lambda survey, proposal: True,
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
    show
        Called with what was found out about the table and decided, see `labkit.new.create.create_experiment`.
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
    experiment, package = (name if files else EXAMPLE_EXPERIMENT), load_package()
    example = CHOLESTEROL
    with atomic_folder(folder, is_new=True) as beside:

        def render() -> None:
            answers = {"name": name, "version": find_labkit_version(), "has_example": not files}
            described = {"feature": example.feature, "kind": example.kind, "columns": [*example.columns]}
            render_template(beside, {**answers, **described}, files=package)

        def add_and_show(survey: Survey, proposal: Proposal) -> bool:
            nonlocal example
            example = choose_example(survey, proposal)
            add_example(example, proposal, name)
            render()
            return show(survey, proposal)

        render()
        for notebook, content in list_project_notebooks(package).items():
            write_bytes(beside / "notebooks" / notebook, content)
        write_labkit_wheel(beside / WHEELS)
        call_project_git(beside, "init", "--quiet", "--initial-branch=main")
        if files:
            with paths.use_root(beside):
                create_experiment(name, files, target, choices=Choices(), ask=add_and_show, report=report)
        call_project_git(beside, "add", "--all")
        uncommitted = commit(beside, f"Start {name} from labkit {find_labkit_version()}")
        for rest in (".labkit", ".dvc/tmp"):
            shutil.rmtree(beside / rest, ignore_errors=True)
    return NewProject(folder, experiment, example, uncommitted)


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
    if repository := find_repository(folder.parent):
        raise ParamsError(
            f"{shown}: inside the git repository {make_printable(repository)}, and a project is a repository of its "
            "own: name a folder outside of it, or add a table to that repository with labkit new"
        )


def commit(folder: Path, subject: str) -> str:
    """Commit what is staged; return why that was not possible and what to do, empty if it was."""
    if any(run_git(folder, "var", identity).returncode for identity in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")):
        return "git does not know who you are: git config --global user.name NAME, and user.email ADDRESS"
    done = run_git(folder, "commit", "--quiet", "--message", subject)
    return make_printable((done.stderr or done.stdout).strip()) if done.returncode else ""
