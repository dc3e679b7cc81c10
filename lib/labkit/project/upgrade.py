"""Upgrade a project to the labkit that is installed: merge what has changed in its template, and replace its wheel.

The project's wheel holds the template that the project was rendered with, so that changes of the template and of the
project can be told apart. Files are merged by copier and git, notebooks by cell.
"""

import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import nbformat

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, list_briefly
from labkit.project.create import WHEELS
from labkit.project.git import call_project_git
from labkit.project.template import list_project_notebooks, update_from_template
from labkit.project.wheel import find_labkit_version, load_package, name_labkit_wheel, write_labkit_wheel
from labkit.run.checkout import PROJECT_FILE, find_newer_fault, load_answers
from labkit.run.notebook.merge import merge_three_way
from labkit.run.notebook.own_notebooks import write_notebook
from labkit.run.notebook.source import read_notebook
from labkit.storage.atomic import write_bytes

CONFLICT, BESIDE = ".conflict.ipynb", ".template.ipynb"
"""Endings of what is written beside a notebook: the merged one with conflicts, and a new one of the template."""


@dataclass(frozen=True)
class ProjectUpgrade:
    """The result of the upgrade of a project.

    Attributes
    ----------
    before, after
        Versions of labkit.
    changed
        Files that differ from the last commit, relative to the project.
    conflicts
        Files with conflict markers. Those of a notebook are in a file beside it.
    beside
        New notebooks of the template whose name a notebook of the user's has, each written beside that.
    """

    before: str
    after: str
    changed: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def is_project() -> bool:
    """Return whether the checkout is a project that `labkit init` made."""
    return (paths.find_root() / PROJECT_FILE).is_file()


def upgrade_project(*, is_dry: bool = False) -> ProjectUpgrade:
    """Merge what has changed in the template since a project was made or last upgraded, and replace labkit's wheel.

    Parameters
    ----------
    is_dry
        Write nothing: the upgrade is tried in a temporary clone.

    Raises
    ------
    ParamsError
        The project is of a newer labkit than the installed one, has uncommitted changes, its wheel is missing, or
        a notebook to merge is not valid. Nothing is changed.
    LabkitError
        The template cannot be rendered.
    """
    root = paths.find_root()
    answers, after = load_answers(root / PROJECT_FILE), find_labkit_version()
    before = answers["version"]
    if fault := find_newer_fault(before, after):
        raise ParamsError(f"{fault.found}: {fault.remedy}")
    old, new = load_old_package(root / WHEELS / name_labkit_wheel(before)), load_package()
    if old == new and before == after:
        return ProjectUpgrade(before, after, conflicts=list_left(root, CONFLICT), beside=list_left(root, BESIDE))
    if uncommitted := list_changed(root):
        listed = list_briefly([make_printable(path) for path in uncommitted], most=5)
        raise ParamsError(f"uncommitted changes: {listed}: commit or stash them first, so that git shows the upgrade")
    notebooks = merge_notebooks(root / "notebooks", list_project_notebooks(old), list_project_notebooks(new))
    with ExitStack() as stack:
        folder = root
        if is_dry:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-"))) / "project"
            call_project_git(root, "clone", "--quiet", str(root), str(folder))
        update_from_template(folder, answers, version=after, before=old, after=new)
        unmerged = split_names(call_project_git(folder, "diff", "--name-only", "-z", "--diff-filter=U"))
        for name, content in notebooks.items():
            path = folder / "notebooks" / name
            path.unlink() if content is None else write_bytes(path, content)
        (folder / WHEELS / name_labkit_wheel(before)).unlink()
        write_labkit_wheel(folder / WHEELS)
        changed = list_changed(folder)
    marked, beside = ([f"notebooks/{name}" for name in notebooks if name.endswith(one)] for one in (CONFLICT, BESIDE))
    return ProjectUpgrade(before, after, tuple(changed), tuple(sorted([*unmerged, *marked])), tuple(beside))


def list_left(root: Path, ending: str) -> tuple[str, ...]:
    """Return the notebooks of an earlier upgrade that the user has not dealt with, relative to the project."""
    return tuple(path.relative_to(root).as_posix() for path in sorted((root / "notebooks").glob(f"*{ending}")))


def list_changed(folder: Path) -> list[str]:
    """Return the files of a repository that differ from the last commit, relative to it."""
    found = call_project_git(folder, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    return sorted(entry[3:] for entry in split_names(found))


def split_names(listed: str) -> list[str]:
    """Return the entries that git lists with `-z`."""
    return [entry for entry in listed.split("\0") if entry]


def load_old_package(wheel: Path) -> dict[str, bytes]:
    """Return the files of the labkit that a project was rendered with, see `labkit.project.wheel.load_package`."""
    where = paths.show_path(wheel)
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if ".dist-info/" not in name]
            return {name: archive.read(name) for name in names}
    except FileNotFoundError as error:
        remedy = f"restore it: git log --oneline -- {where}, then git checkout COMMIT -- {where}"
        raise ParamsError(f"{where}: missing, and it holds the template to compare with: {remedy}") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise ParamsError(f"{where}: cannot be read ({error}): restore it from git") from error


def merge_notebooks(folder: Path, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """Merge what has changed in the template's notebooks into those of a folder, without writing anything.

    Returns
    -------
    Content of the files to write to that folder by name, None for one to delete.

    Raises
    ------
    ParamsError
        A notebook in the folder is not valid.
    """
    found = [merge_notebook(folder / name, before.get(name), after.get(name)) for name in sorted({*before, *after})]
    return dict(change for change in found if change)


def merge_notebook(path: Path, before: bytes | None, after: bytes | None) -> tuple[str, bytes | None] | None:
    """Merge what has changed in a notebook of the template; return the file to write and its content, if any."""
    own = path.read_bytes() if path.exists() else None
    if before == after or own == after:
        return None
    if own == before:
        return path.name, after
    if own is None or after is None:  # what the user deleted stays deleted, what the user changed stays
        return None
    if before is None:  # the two have nothing in common but the name
        return path.with_suffix(BESIDE).name, after
    base, theirs = (nbformat.reads(one.decode(), as_version=4) for one in (before, after))
    merged = merge_three_way(base, read_notebook(path).notebook, theirs)
    name = path.with_suffix(CONFLICT).name if merged.conflicts else path.name
    return name, write_notebook(merged.notebook).encode()
