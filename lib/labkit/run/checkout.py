"""Whether a checkout meets DVC's requirements: under git, with its outputs inside it. Checked before anything runs.

Does not import DVC, which takes a second and reports these faults only after the first stage has run.
"""

import configparser
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from labkit import paths
from labkit.errors import ParamsError, list_briefly
from labkit.params.yaml_text import load_written_yaml
from labkit.run.dvc_yaml import load_declarations

PROJECT_FILE = ".copier-answers.yml"
"""How a project was rendered from its template, in each project that `labkit init` made."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a checkout, and what to do about it."""

    found: str
    remedy: str


def check_checkout(experiment: str) -> None:
    """Raise an error if DVC could not run the stages of an experiment in this checkout.

    Raises
    ------
    ParamsError
        It is not under git, is a project of another version of labkit, or outputs would be written outside of it.
    """
    if fault := find_git_fault() or find_version_fault() or find_place_fault([experiment]):
        raise ParamsError(f"{fault.found}: {fault.remedy}")


def find_git_fault() -> Fault | None:
    """Return the fault of a checkout that is not under git, None if it is or DVC is configured to work without."""
    root = paths.find_root()
    # A worktree or a submodule has a file of that name.
    if (root / ".git").exists() or is_without_git(root / ".dvc"):
        return None
    return Fault(f"{root} is not a git repository, which DVC needs", "run `git init` there")


def find_version_fault() -> Fault | None:
    """Return the fault of a project, made by `labkit init`, that is of another version of labkit than the installed."""
    path = paths.find_root() / PROJECT_FILE
    if not path.is_file():
        return None
    made, installed = load_answers(path)["version"], importlib.metadata.version("labkit")
    if made == installed:
        return None
    return find_newer_fault(made, installed) or Fault(
        f"{PROJECT_FILE}: the project is of labkit {made}, but {installed} is installed",
        f"merge what has changed with `labkit upgrade`, or return to labkit {made} from wheels/ with `make -B install`",
    )


def find_newer_fault(made: str, installed: str) -> Fault | None:
    """Return the fault of a project that is of a newer labkit than the installed one, None if it is not."""
    if Version(made) <= Version(installed):
        return None
    return Fault(
        f"{PROJECT_FILE}: the project is of labkit {made}, newer than the installed {installed}",
        f"install labkit {made} from wheels/ with `make -B install`",
    )


def load_answers(path: Path) -> dict[str, Any]:
    """Return the answers that a project was rendered with; `version` is labkit's.

    Raises
    ------
    ParamsError
        The file is not valid YAML, or lacks an answer or the version.
    """
    answers = load_written_yaml(path)
    answers = answers if isinstance(answers, dict) else {}
    if missing := {"name", "version", "has_example"} - {*answers}:
        raise ParamsError(f"{PROJECT_FILE}: without {list_briefly(sorted(missing))}: restore it from git")
    try:
        return {**answers, "version": str(Version(str(answers["version"])))}
    except InvalidVersion as error:
        raise ParamsError(f"{PROJECT_FILE}: names no version of labkit: restore it from git") from error


def is_without_git(folder: Path) -> bool:
    """Return whether DVC is configured to work without git."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([folder / "config", folder / "config.local"], encoding="utf-8")
        return config.getboolean("core", "no_scm", fallback=False)
    except (configparser.Error, ValueError):
        return False  # DVC reports a broken configuration


def find_place_fault(experiments: list[str]) -> Fault | None:
    """Return the fault of a folder that DVC uses for these experiments and that is a link out of the checkout."""
    root = paths.find_root()
    folders = {root / ".dvc"}
    for experiment in experiments:
        data = paths.find_data_dir(experiment)
        # DVC replaces whatever is at the path of an output itself, even a link.
        folders |= {(data / name).parent for one in load_declarations(experiment).values() for name in one.outputs}
    for folder in sorted(folders):
        if not folder.resolve().is_relative_to(root.resolve()):
            link = next(path for path in [*reversed(folder.parents), folder] if is_leaving(path, root))
            return Fault(
                f"{paths.show_path(link)} points to {link.resolve()}, outside of the checkout, where DVC keeps no "
                "outputs",
                "move it back. If disk space is short here, move DVC's cache with `dvc cache dir PATH`, or mount the "
                f"other disk at {paths.show_path(link)} (mount --bind)",
            )
    return None


def is_leaving(path: Path, root: Path) -> bool:
    """Return whether a path below the root leads out of it."""
    return path.is_relative_to(root) and not path.resolve().is_relative_to(root.resolve())
