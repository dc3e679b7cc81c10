"""What can be seen in a saved notebook without running it: order, undefined names, absolute paths, secrets."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

from nbformat import NotebookNode

from labkit.errors import shorten
from labkit.run.fingerprint.notebook_code import MAY_RAISE
from labkit.run.fingerprint.python_code import find_name, get_string
from labkit.run.saved_cells.code_cells import CodeCell, Finding, read_code_cells
from labkit.run.saved_cells.undefined_names import find_undefined
from labkit.secrets.detection import find_secret
from labkit.secrets.redaction import Mask

ALLOWED_LINE = "pragma: allowlist secret"
"""Comment that marks a line as free of secrets, as for other scanners."""
FOLDERS = (
    "Users|Volumes|content|data|home|kaggle|media|mnt|opt|private|root|scratch|srv|tmp|var|work|workspace|workspaces"
)
ABSOLUTE = re.compile(rf"(?:(?<![\w.:/~\\-])|(?<=file://))(?:/(?:{FOLDERS})/[^\s/'\"]|[A-Za-z]:[\\/][\w.]|\\\\\w+\\\w)")
"""Begin of a path that exists on one machine only: below a folder of users or data, on a drive, on a share."""

REMEDY = "read it from the environment, as step.secret does"


def check_static(notebook: NotebookNode) -> list[Finding]:
    """Return what a notebook's code, counts and outputs show, in the order of the cells.

    Parameters
    ----------
    notebook
        A notebook of format 4, with or without outputs.
    """
    cells = list(read_code_cells(notebook))
    found = [*find_syntax(cells), *find_disorder(cells), *find_undefined(cells)]
    found += [finding for cell in cells for finding in find_absolute_paths(cell)]
    found += find_secrets(notebook, cells)
    return sorted(found, key=lambda one: (one.cell, one.line or 0, one.kind))


def find_syntax(cells: Sequence[CodeCell]) -> Iterator[Finding]:
    """Yield cells that are neither Python nor magics."""
    for cell in cells:
        if cell.tree is None and cell.is_run and MAY_RAISE not in cell.tags:
            yield cell.find(None, "syntax", "not valid Python")


def find_disorder(cells: Sequence[CodeCell]) -> Iterator[Finding]:
    """Yield cells that were run before one above them, and cells that were skipped."""
    last = max((position for position, cell in enumerate(cells) if cell.count), default=-1)
    latest: CodeCell | None = None
    for cell in cells[: last + 1]:
        if cell.count is None:
            if cell.is_run:
                yield cell.find(None, "order", "was not run, and cells below it were")
        elif latest and cell.count < (latest.count or 0):
            above = f"cell {latest.number} above it, which ran as [{latest.count}]"
            yield cell.find(None, "order", f"ran as [{cell.count}], before {above}")
        else:
            latest = cell


def find_absolute_paths(cell: CodeCell) -> Iterator[Finding]:
    """Yield strings with a path that exists on one machine only; docstrings do not count."""
    if cell.tree is None:
        return
    shown = [id(node.value) for node in ast.walk(cell.tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(cell.tree):
        string = None if id(node) in shown else get_string(node)
        if string and (found := ABSOLUTE.search(string)):
            place = Mask().clean_text(string[found.start() :]).split("\n")[0]
            message = f"{shorten(place, 60)} exists on one machine only: use a path relative to the notebook"
            yield cell.find(node.lineno, "path", message)  # type: ignore[attr-defined]


def find_secrets(notebook: NotebookNode, cells: Sequence[CodeCell]) -> Iterator[Finding]:
    """Yield what looks like a secret in the sources, the names of values, the outputs and attachments."""
    for number, cell in enumerate(notebook.cells, 1):
        named, lines = str(cell.get("id", "")), cell.source.split("\n")
        for line in sorted(list_token_lines(cell.source)):
            if ALLOWED_LINE not in lines[line - 1]:
                yield Finding(number, named, line, "secret", f"looks like a token or password: {REMEDY}")
        for place, output in enumerate(cell.get("outputs", []), 1):
            mask = Mask()
            mask.clean(dict(output))
            if mask.n_redacted:
                yield Finding(number, named, None, "secret", f"output {place} shows what looks like a token: clear it")
    for code in cells:
        lines = code.source.split("\n")
        for name, value, line in list_named_values(code):
            is_token = Mask().clean_text(value) != value  # reported by its line already
            written = lines[min(line + code.offset, len(lines)) - 1]
            if not is_token and any(find_secret({name: value})) and ALLOWED_LINE not in written:
                yield code.find(line, "secret", f"{name} is written out: {REMEDY}")


def list_token_lines(source: str) -> set[int]:
    """Return the lines of a source, from 1, at which something in a published token format begins."""
    cleaned = Mask()
    if cleaned.clean_text(source) == source:
        return set()
    found = {number for number, line in enumerate(source.split("\n"), 1) if Mask().clean_text(line) != line}
    return found or {1}


def list_named_values(cell: CodeCell) -> Iterator[tuple[str, str, int]]:
    """Yield name, value and line of each string that is assigned, passed by keyword or held under a key."""
    for node in ast.walk(cell.tree) if cell.tree else ():
        pairs: list[tuple[str | None, Any]] = []
        if isinstance(node, ast.Assign):
            pairs = [(find_name(target) or find_subscript(target), node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            pairs = [(find_name(node.target), node.value)]
        elif isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            keys = [get_string(key) if key else None for key in node.keys]
            pairs = list(zip(keys, node.values, strict=True))
        for name, value in pairs:
            string = get_string(value) if value is not None else None
            if name and string:
                yield name, string, value.lineno


def find_subscript(target: ast.expr) -> str | None:
    """Return the key in `settings["password"]`."""
    return get_string(target.slice) if isinstance(target, ast.Subscript) else None
