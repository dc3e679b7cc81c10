"""Renders the template of a project with copier. The template is part of labkit, in its wheel as in the checkout."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from labkit.errors import LabkitError, ParamsError, get_first_line
from labkit.storage.atomic import write_bytes

TEMPLATE = "labkit/project/template/"
"""Folder of the template in a wheel."""


def render_template(folder: Path, answers: Mapping[str, str | bool], *, files: Mapping[str, bytes]) -> None:
    """Render a template into a folder.

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
        # copier follows no link out of the template.
        for name, content in files.items():
            if name.startswith(TEMPLATE):
                write_bytes(Path(template) / name.removeprefix(TEMPLATE), content)
        try:
            run_copy(template, folder, dict(answers), defaults=True, overwrite=True, quiet=True)
        except CopierError as error:
            raise LabkitError(f"the template cannot be rendered: {get_first_line(error)}") from error
