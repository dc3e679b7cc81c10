"""Folders that share files with others: symbolic links to them, hard links, or copies."""

import os
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


def copy_tree(source: Path, path: Path, *, is_linked: bool = False) -> None:
    """Copy a file or a folder to a path that does not exist yet; missing folders above it are made.

    Parameters
    ----------
    source
        The file or folder.
    path
        Where the copy is made.
    is_linked
        Make hard links instead, which take no space: for files that are replaced, never written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    copy = os.link if is_linked else shutil.copy2
    if source.is_dir():
        shutil.copytree(source, path, copy_function=copy)
    else:
        copy(source, path)
