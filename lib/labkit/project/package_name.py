"""The name of a project, which is also that of its package in `lib/` and of its experiment."""

import keyword
import re
import sys
from pathlib import Path

from labkit.errors import ParamsError
from labkit.names import EXPERIMENT_NAME
from labkit.run.fingerprint.packages import find_distributions

FOLDERS = frozenset({"data", "lib", "notebooks", "params", "reports", "tests", "wheels"})
"""Folders of a project, which Python would find under their names as well."""


def make_package_name(folder: Path) -> str:
    """Return the name of a project in a folder: the folder's, with `_` for `-`.

    Parameters
    ----------
    folder
        Absolute path of the folder.

    Examples
    --------
    >>> make_package_name(Path("/work/churn-model"))
    'churn_model'
    """
    return folder.name.replace("-", "_")


def check_package_name(name: str) -> str:
    """Return a name if a package of a project can have it.

    Parameters
    ----------
    name
        Name of the project.

    Raises
    ------
    ParamsError
        It is not a valid name, means something else in Python, or is taken by an installed package.
    """
    if not re.fullmatch(EXPERIMENT_NAME, name):
        what = "is not a valid package name: use lowercase letters, digits and _, at most 63, a letter first"
    elif keyword.iskeyword(name) or keyword.issoftkeyword(name):
        what = "is a keyword of Python"
    elif name in FOLDERS:
        what = "is the name of a folder of each project"
    elif name in sys.stdlib_module_names:
        what = "is a module of Python"
    elif packages := find_distributions(name):
        what = f"is the name of an installed package ({', '.join(sorted(packages))})"
    else:
        return name
    raise ParamsError(f"{name!r} {what}: name the project with --name")
