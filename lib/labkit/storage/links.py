"""Folders that have files of others: as symbolic links to them, or as copies."""

import shutil
from pathlib import Path


def link_to(target: Path, path: Path) -> None:
    """Make a symbolic link at `path` to an existing file or folder.

    Parameters
    ----------
    target
        Where the link leads to, absolute.
    path
        Where the link is made; its folder must exist.
    """
    path.symlink_to(target)


def copy_tree(source: Path, path: Path) -> None:
    """Copy a file or a folder to a path that does not exist yet; missing folders above it are made.

    Parameters
    ----------
    source
        The file or folder.
    path
        Where the copy is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, path)
    else:
        shutil.copy2(source, path)
