"""The code cells of a notebook as Python, and what the checks find in them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from nbformat import NotebookNode

from labkit.run.fingerprint.notebook_code import NOT_RUN, PYTHON_MAGICS, expand_magics, transform
from labkit.run.fingerprint.python_code import parse_code

CELL_MAGIC = re.compile(r"%%(\w+)([^\n]*)\n?")
OTHER_PROCESS = frozenset({"pypy", "python", "python3"})
"""Magics that run Python, but not in the kernel."""


@dataclass(frozen=True)
class Finding:
    """A problem found in a notebook.

    Attributes
    ----------
    cell
        Position of the cell among all cells of the notebook, from 1.
    cell_id
        The id that the notebook's file gives the cell; empty in formats before 4.5.
    line
        Line in the cell, from 1; None if it is about the whole cell.
    kind
        `order`, `undefined`, `path`, `secret`, `syntax`, `error` or `output`.
    name
        The undefined name; empty for other kinds.
    """

    cell: int
    cell_id: str
    line: int | None
    kind: str
    message: str
    name: str = ""

    def describe(self) -> str:
        """Return place, kind and message in one line."""
        named = f" ({self.cell_id})" if self.cell_id else ""
        line = f", line {self.line}" if self.line else ""
        return f"cell {self.cell}{named}{line}: {self.kind}: {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class CodeCell:
    """One code cell.

    Attributes
    ----------
    number
        Position among all cells of the notebook, from 1.
    count
        The execution count saved with it; None if it was not run.
    tree
        Its syntax tree, with magics as the Python code into which IPython transforms them; None if it is not Python.
    offset
        Lines of the cell before the first line of the tree.
    bound
        Names that its magics bind.
    """

    number: int
    cell_id: str
    source: str
    tags: frozenset[str]
    count: int | None
    tree: ast.Module | None
    offset: int = 0
    bound: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_run(self) -> bool:
        """Whether a run from top to bottom executes anything here."""
        return bool(self.source.strip()) and NOT_RUN not in self.tags

    def find(self, line: int | None, kind: str, message: str, *, name: str = "") -> Finding:
        """Return a finding in a line of the tree."""
        return Finding(self.number, self.cell_id, None if line is None else line + self.offset, kind, message, name)


def read_code_cells(notebook: NotebookNode) -> Iterator[CodeCell]:
    """Yield the code cells of a notebook in their order.

    Parameters
    ----------
    notebook
        A notebook of format 4.
    """
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            tags = frozenset(cell.metadata.get("tags", ()))
            tree, offset, bound = parse_cell(cell.source)
            named = str(cell.get("id", ""))
            yield CodeCell(number, named, cell.source, tags, cell.get("execution_count"), tree, offset, bound)


def parse_cell(source: str) -> tuple[ast.Module | None, int, frozenset[str]]:
    """Return a cell's syntax tree, the lines before it, and the names that its magics bind."""
    tree = parse_code(source)
    if tree is not None:
        return tree, 0, frozenset()
    before = len(source) - len(source.lstrip())
    n_blank = source[:before].count("\n")
    magic = CELL_MAGIC.match(source, before)
    if magic and magic[1] in PYTHON_MAGICS - OTHER_PROCESS:
        tree, offset, bound = parse_cell(source[magic.end() :])
        stored = {word for word in magic[2].split() if magic[1] == "capture" and word.isidentifier()}
        return tree, n_blank + 1 + offset, bound | stored
    tree = parse_code(transform(source))
    if tree is not None:
        expand_magics(tree)
    return tree, n_blank, frozenset()
