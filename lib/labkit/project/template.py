"""Renders the template of a project with copier. The template is part of labkit, in its wheel as in the checkout."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, ParamsError, get_first_line
from labkit.project.git import REPOSITORY_VARIABLES, call_project_git
from labkit.project.wheel import NOTEBOOKS, TEMPLATE
from labkit.storage.atomic import write_bytes, write_text

ANSWERS = ".labkit/answers.json"
"""Where copier finds, while it updates, what it needs besides a project's own answers: paths of this machine."""
BEFORE, AFTER = "1.0", "2.0"
"""Versions of a template in copier's sense."""
IDENTITY = ("-c", "user.name=labkit", "-c", "user.email=labkit@localhost")
COMMIT = ("--quiet", "--allow-empty", "--no-verify", "--no-gpg-sign")


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
    with tempfile.TemporaryDirectory(prefix="labkit-") as template:
        write_template(Path(template), files)
        call_copier("run_copy", template, folder, dict(answers))


def update_from_template(
    folder: Path,
    answers: Mapping[str, Any],
    *,
    version: str,
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
) -> None:
    """Merge what has changed in the template into a project without uncommitted changes, but for the notebooks.

    copier updates from one commit of a template to another, so both versions are committed to a temporary repository.

    Parameters
    ----------
    folder
        The project, a whole git repository. What conflicts gets conflict markers, and is unmerged for git.
    answers
        Answers that the project was rendered with.
    version
        The new version of labkit.
    before, after
        Files of labkit, see `render_template`, of the version that the project was rendered with and of the new one.

    Raises
    ------
    ParamsError
        copier is not installed, or git fails.
    LabkitError
        The template cannot be rendered.
    """
    known = folder / ANSWERS
    with tempfile.TemporaryDirectory(prefix="labkit-") as scratch:
        template = Path(scratch)
        call_project_git(template, "init", "--quiet")
        for tag, files in ((BEFORE, before), (AFTER, after)):
            for path in (path for path in template.iterdir() if path.name != ".git"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            write_template(template, files)
            call_project_git(template, "add", "--all", "--force")
            call_project_git(template, *IDENTITY, "commit", *COMMIT, "--message", tag)
            call_project_git(template, "update-ref", f"refs/tags/{tag}", "HEAD")
        write_text(known, json.dumps({**answers, "_src_path": scratch, "_commit": BEFORE}))
        try:
            call_copier("run_update", folder, data={"version": version}, answers_file=ANSWERS, vcs_ref=AFTER)
        finally:
            known.unlink()


def call_copier(function: str, *arguments: Any, **options: Any) -> None:
    """Call a function of copier without questions; raise LabkitError if it fails."""
    try:
        import copier
        from copier.errors import CopierError
        from plumbum import local
    except ImportError as error:
        raise ParamsError(f"copier cannot be imported ({error}): uv pip install copier") from error
    try:
        # copier gives git the environment of the first import of plumbum: in a hook, one that names another repository.
        with local.env():
            for name in REPOSITORY_VARIABLES:
                local.env.pop(name, "")
            getattr(copier, function)(*arguments, defaults=True, overwrite=True, quiet=True, **options)
    except CopierError as error:
        raise LabkitError(f"the template cannot be rendered: {get_first_line(error)}") from error


def write_template(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a template's files, as copier follows no link out of it."""
    for name, content in files.items():
        if name.startswith(TEMPLATE) and not name.startswith(NOTEBOOKS):
            write_bytes(folder / name.removeprefix(TEMPLATE), content)


def list_project_notebooks(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the content of a project's notebooks by file name.

    Parameters
    ----------
    files
        See `render_template`.
    """
    return {name.removeprefix(NOTEBOOKS): content for name, content in files.items() if name.startswith(NOTEBOOKS)}
