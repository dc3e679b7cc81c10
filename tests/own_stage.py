"""Makes the notebook of a stage of the user's own from the documentation, which shows all of its cells."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import nbformat
from click.testing import CliRunner
from labkit.cli.main import cli
from labkit.errors import LabkitError

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "own-notebooks.md").read_text(encoding="utf-8")
CELLS = re.findall(r"^```(markdown|parameters|python)\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line.partition("#")[0].strip() for line in PAGE.splitlines() if re.match(r"(labkit|papermill|dvc) ", line)]
"""The commands of the documentation in order."""


def copy_notebooks(root: Path) -> Path:
    """Copy labkit's notebooks into a checkout, without the copies that editors keep, and return the checkout."""
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    return root


def call_for_message(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it prints, or the message of its error."""
    done = CliRunner().invoke(cli, arguments)
    if isinstance(done.exception, LabkitError):
        return done.exception.exit_code, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def write_stage(path: Path, shown: Sequence[tuple[str, str]] = CELLS, **replaced: str) -> Path:
    """Write the notebook of the documentation, with some strings in its cells replaced."""
    cells = []
    for kind, source in shown:
        for before, after in replaced.items():
            source = source.replace(before, after)
        tags = {"tags": ["parameters"]} if kind == "parameters" else {}
        make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        cells.append(make(source, metadata=tags, id=f"cell-{len(cells)}"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_table(path: Path, *, reads: str = "", writes: str, parameters: str = "") -> Path:
    """Write a notebook whose table declares this."""
    row = f"| {reads} | {writes} | {parameters} |"
    return write_stage(path, **{"| `clean_training` | `segments.parquet`, `sizes.json` | `data.target.column` |": row})
