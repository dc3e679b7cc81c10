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
from typing import Any

import nbformat
from packaging.version import Version

from labkit import paths
from labkit.errors import ParamsError, list_briefly
from labkit.params.yaml_text import load_plain
from labkit.project.create import WHEELS
from labkit.project.git import call_project_git
from labkit.project.template import list_project_notebooks, update_from_template
from labkit.project.wheel import find_labkit_version, load_package, name_labkit_wheel, write_labkit_wheel
from labkit.run.checkout import PROJECT_FILE, find_project_version
from labkit.run.notebook.merge import merge_three_way
from labkit.run.notebook.own_notebooks import write_notebook
from labkit.storage.atomic import write_bytes, write_text


@dataclass(frozen=True)
class ProjectUpgrade:
    """What the upgrade of a project comes to.

    Attributes
    ----------
    before, after
        Versions of labkit.
    changed
        Files that differ from the last commit, relative to the project.
    conflicts
        Files with conflict markers. Those of a notebook are in a file beside it.
    """

    before: str
    after: str
    changed: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


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
        The project is of a newer labkit than the installed one, has uncommitted changes, or its wheel is missing.
    LabkitError
        The template cannot be rendered.
    """
    root = paths.find_root()
    answers, after = load_answers(root / PROJECT_FILE), find_labkit_version()
    before = find_project_version(root / PROJECT_FILE)
    if before is None:
        raise ParamsError(f"{PROJECT_FILE}: names no version of labkit: restore it from git")
    if Version(before) > Version(after):
        raise ParamsError(
            f"{PROJECT_FILE}: the project is of labkit {before}, newer than the installed {after}: install it from "
            "wheels/ with `make -B install`"
        )
    old, new = load_old_package(root / WHEELS / name_labkit_wheel(before)), load_package()
    if old == new and before == after:
        return ProjectUpgrade(before, after)
    if uncommitted := call_project_git(root, "status", "--porcelain").splitlines():
        listed = list_briefly([line[3:] for line in uncommitted], most=5)
        raise ParamsError(f"uncommitted changes: {listed}: commit or stash them first, so that git shows the upgrade")
    with ExitStack() as stack:
        folder = root
        if is_dry:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-"))) / "project"
            call_project_git(root, "clone", "--quiet", str(root), str(folder))
        conflicts = merge_project(folder, answers, version=after, before=old, after=new)
        (folder / WHEELS / name_labkit_wheel(before)).unlink()
        write_labkit_wheel(folder / WHEELS)
        lines = call_project_git(folder, "status", "--porcelain", "--untracked-files=all").splitlines()
    return ProjectUpgrade(before, after, tuple(sorted(line[3:] for line in lines)), conflicts)


def load_answers(path: Path) -> dict[str, Any]:
    """Return the answers that a project was rendered with."""
    answers = load_plain(path)
    if missing := {"name", "version", "has_example"} - {*answers}:
        raise ParamsError(f"{PROJECT_FILE}: without {list_briefly(sorted(missing))}: restore it from git")
    return answers


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


def merge_project(
    folder: Path, answers: Mapping[str, Any], *, version: str, before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Merge what has changed in template and notebooks into a project; return the files with conflicts."""
    notebooks = list_project_notebooks(before), list_project_notebooks(after)
    update_from_template(folder, answers, version=version, before=before, after=after)
    unmerged = call_project_git(folder, "diff", "--name-only", "--diff-filter=U").splitlines()
    for name in sorted({*notebooks[0], *notebooks[1]}):
        path = folder / "notebooks" / name
        if conflict := merge_notebook(path, notebooks[0].get(name), notebooks[1].get(name)):
            unmerged.append(conflict.relative_to(folder).as_posix())
    return tuple(sorted(unmerged))


def merge_notebook(path: Path, before: bytes | None, after: bytes | None) -> Path | None:
    """Merge what has changed in a notebook of the template; return the file beside it that holds conflicts, if any."""
    own = path.read_bytes() if path.exists() else None
    if before == after or own == after:
        return None
    if own == before:
        path.unlink() if after is None else write_bytes(path, after)
        return None
    if own is None or after is None:  # what the user deleted stays deleted, what the user changed stays
        return None
    base, mine, theirs = (nbformat.reads(one.decode(), as_version=4) for one in (before or after, own, after))
    merged = merge_three_way(base, mine, theirs)
    place = path.with_suffix(".conflict.ipynb") if merged.conflicts or before is None else path
    write_text(place, write_notebook(merged.notebook))
    return place if place != path else None
