"""Notebooks as a user leaves them: code with counts and outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

TOKEN = "ghp_" + "a1B2" * 10
"""What a secret in a notebook looks like."""


def show(value: str, kind: str = "text/plain") -> NotebookNode:
    """Return the output of a cell's last expression."""
    return new_output("execute_result", data={kind: value})


def printed(text: str, name: str = "stdout") -> NotebookNode:
    """Return what a cell printed."""
    return new_output("stream", name=name, text=text)


def code(source: str, count: int | None = None, *outputs: NotebookNode, tags: Sequence[str] = ()) -> NotebookNode:
    """Return a code cell."""
    cell = new_code_cell(source, execution_count=count, outputs=list(outputs))
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def make_scratch(*cells: NotebookNode | str, **metadata: Any) -> NotebookNode:
    """Return a notebook without kernel and `parameters` cell, its cells numbered by their ids."""
    made = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    for number, cell in enumerate(made, 1):
        cell["id"] = f"id-{number}"
    return new_notebook(cells=made, metadata=metadata)


def write_scratch(path: Path, *cells: NotebookNode | str, **metadata: Any) -> Path:
    """Write such a notebook and return its path."""
    nbformat.write(make_scratch(*cells, **metadata), path)
    return path
