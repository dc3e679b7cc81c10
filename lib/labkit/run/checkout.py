"""Whether a checkout is as DVC needs it: under git, with its outputs inside it. Looked at before anything runs.

Needs no DVC, which takes a second to import and reports these faults only after the first stage has run.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path

from labkit import paths
from labkit.errors import ParamsError
from labkit.run.dvc_yaml import load_declarations


@dataclass(frozen=True)
class Fault:
    """What is wrong with a checkout, and what to do about it."""

    found: str
    remedy: str


def check_checkout(experiment: str) -> None:
    """Refuse a checkout in which DVC could not run the stages of an experiment.

    Raises
    ------
    ParamsError
        It is not under git, or outputs would be written outside of it.
    """
    if fault := find_git_fault() or find_place_fault([experiment]):
        raise ParamsError(f"{fault.found}: {fault.remedy}")


def find_git_fault() -> Fault | None:
    """Return what to do about a checkout that is not under git, None if it is or DVC is set up to do without."""
    root = paths.find_root()
    # A worktree or a submodule has a file of that name.
    if (root / ".git").exists() or is_without_git(root / ".dvc"):
        return None
    return Fault(f"{root} is not a git repository, which DVC needs", "run `git init` there")


def is_without_git(folder: Path) -> bool:
    """Return whether DVC is configured to work without git."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([folder / "config", folder / "config.local"], encoding="utf-8")
        return config.getboolean("core", "no_scm", fallback=False)
    except (configparser.Error, ValueError):
        return False  # DVC reports a broken configuration


def find_place_fault(experiments: list[str]) -> Fault | None:
    """Return which folder, in which DVC keeps something of these experiments, leads out of the checkout."""
    root = paths.find_root()
    folders = {root / ".dvc"}
    for experiment in experiments:
        data = paths.find_data_dir(experiment)
        # What stands at an output's own place is replaced by it, be it a link.
        folders |= {(data / name).parent for one in load_declarations(experiment).values() for name in one.outputs}
    for folder in sorted(folders):
        if not folder.resolve().is_relative_to(root.resolve()):
            link = next(path for path in [*reversed(folder.parents), folder] if is_leaving(path, root))
            return Fault(
                f"{paths.show(link)} leads to {link.resolve()}, outside of the checkout, where DVC keeps no outputs",
                "move it back. For room elsewhere, move DVC's cache with `dvc cache dir PATH`, or mount the other disk "
                f"at {paths.show(link)} (mount --bind)",
            )
    return None


def is_leaving(path: Path, root: Path) -> bool:
    """Return whether a path below the root leads out of it."""
    return path.is_relative_to(root) and not path.resolve().is_relative_to(root.resolve())
