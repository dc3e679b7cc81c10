"""Notebooks of a few cells, and running them for real."""

import io
import os
from pathlib import Path

import nbformat
from labkit.params.experiment import TimeLimits
from labkit.run.notebook.execution import Live
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.result import Execution
from labkit.run.notebook.source import read_source


def make_notebook(path: Path, *sources: str, tagged: int = 0) -> Path:
    """Write a notebook of code cells, one of them tagged `parameters`, under two headings."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[tagged].metadata["tags"] = ["parameters"]
    headed = [
        nbformat.v4.new_markdown_cell("# Title"),
        *cells[:1],
        nbformat.v4.new_markdown_cell("## Part"),
        *cells[1:],
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=headed, metadata={"kernelspec": kernel}), path)
    return path


EXPERIMENT = 'experiment = "mine"'


def run(
    path: Path, *, limits: TimeLimits | None = None, log: io.StringIO | None = None, **environment: str
) -> tuple[Execution, list[tuple[int, int, str]], nbformat.NotebookNode]:
    """Execute a notebook; return how it ended, the cells reported, and the executed copy."""
    reported: list[tuple[int, int, str]] = []
    executed = path.with_name("executed.ipynb")
    ended = run_notebook(
        read_source(path),
        executed,
        parameters={"experiment": "other"},
        environment={**os.environ, **environment},
        on_cell=lambda *cell: reported.append(cell),
        limits=limits,
        live=Live(log),
    )
    return ended, reported, nbformat.read(executed, as_version=4)
