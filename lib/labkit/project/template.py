"""Renders the template of a project with copier. The template is part of labkit, in its wheel as in the checkout."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, ParamsError, get_first_line
from labkit.project.wheel import PACKAGE_DIR
from labkit.storage.atomic import write_bytes

TEMPLATE = f"{PACKAGE_DIR.name}/project/template/"
"""Folder of the template in a wheel."""
NOTEBOOKS = f"{TEMPLATE}notebooks/"
EXPERIMENT = re.compile(rb'"experiment = \\"[a-z0-9_]+\\"')
"""The default of a notebook run by hand, in the `parameters` cell as it is stored."""


def render_template(folder: Path, answers: Mapping[str, Any], *, files: Mapping[str, bytes]) -> None:
    """Render a template into a folder, without the notebooks.

    Parameters
    ----------
    folder
        Existing folder; files of the same name are replaced.
    answers
        Answers to the questions of the template's `copier.yml`.
    files
        Content by name of the files of labkit, of the version whose template is rendered.

    Raises
    ------
    ParamsError
        copier is not installed.
    LabkitError
        The template cannot be rendered.
    """
    try:
        from copier import run_copy
        from copier.errors import CopierError
    except ImportError as error:
        raise ParamsError(f"copier cannot be imported ({error}): uv pip install copier") from error
    with tempfile.TemporaryDirectory(prefix="labkit-") as template:
        write_template(Path(template), files)
        try:
            run_copy(template, folder, dict(answers), defaults=True, overwrite=True, quiet=True)
        except CopierError as error:
            raise LabkitError(f"the template cannot be rendered: {get_first_line(error)}") from error


def write_template(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a template's files, as copier follows no link out of it."""
    for name, content in files.items():
        if name.startswith(TEMPLATE) and not name.startswith(NOTEBOOKS):
            write_bytes(folder / name.removeprefix(TEMPLATE), content)


def adapt_notebooks(files: Mapping[str, bytes], experiment: str) -> dict[str, bytes]:
    """Return the content of a project's notebooks by file name; run by hand, they show an experiment.

    Parameters
    ----------
    files
        See `render_template`.
    experiment
        The project's first experiment.
    """
    default = f'"experiment = \\"{experiment}\\"'.encode()
    return {
        name.removeprefix(NOTEBOOKS): EXPERIMENT.sub(default.replace(b"\\", b"\\\\"), content)
        for name, content in files.items()
        if name.startswith(NOTEBOOKS)
    }
