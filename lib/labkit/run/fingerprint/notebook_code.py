"""The meaning of a notebook's code cells: the notebook half of `labkit.run.fingerprint.python_code`.

Outputs, execution counts, cell ids, Markdown and empty cells are ignored, and so are the boundaries between cells,
except that the value of a cell's last expression is displayed: splitting a cell so that another value is displayed is a
change. Magics are read as the Python code into which IPython transforms them.
"""

import ast
import json
import re
from functools import cache
from typing import Any

from labkit.run.fingerprint.python_code import CodeReader, Meaning, find_name, get_string, parse_code

PYTHON_MAGICS = frozenset({"capture", "prun", "pypy", "python", "python3", "time", "timeit"})
RUNS_MAGIC = ("run_cell_magic", "run_line_magic")
INJECTED_AFTER = "parameters"
MAY_RAISE = "raises-exception"
NOT_RUN = "skip-execution"


@cache
def read_notebook(content: bytes) -> Meaning:
    """Return the meaning of a notebook; a file that is not a notebook is compared as a string."""
    reader = CodeReader()
    try:
        cells = [read_cell(cell) for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reader.read(["text", content.decode("utf-8", "surrogateescape")])
        return reader.close()
    for source, tags in cells:
        if NOT_RUN not in tags:
            read_statements(reader, source, tags)
    return reader.close()


def read_cell(cell: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """Return a cell's source and tags."""
    return "".join(cell["source"]), frozenset(cell.get("metadata", {}).get("tags", ()))


def read_statements(reader: CodeReader, source: str, tags: frozenset[str]) -> None:
    """Read the statements of one cell, taking its tags into account."""
    if MAY_RAISE in tags:
        reader.read(["may raise ["])
    tree = parse_code(source)
    if tree is None:
        source = transform(source)
        tree = parse_code(source)
    if tree is None:
        reader.read(["text", source])
    elif tree.body:
        expand_magics(tree)
        *before, last = tree.body
        is_shown = isinstance(last, ast.Expr) and not is_silenced(last, source)
        reader.read(reader.open_list(before if is_shown else tree.body))
        if is_shown:
            reader.read(["shown", last])
    if INJECTED_AFTER in tags:
        reader.read(["parameters"])
    if MAY_RAISE in tags:
        reader.read(["]"])


def is_silenced(last: ast.stmt, source: str) -> bool:
    """Return whether a semicolon keeps a cell's last value from being displayed."""
    line = re.split("\r\n|\r|\n", source)[(last.end_lineno or 1) - 1].encode()
    return line[last.end_col_offset :].lstrip().startswith(b";")


def transform(source: str) -> str:
    """Return a cell with its magics and shell lines transformed into Python."""
    try:
        # Imported when needed: most notebooks are plain Python, and importing IPython is slow.
        from IPython.core.inputtransformer2 import TransformerManager

        return str(TransformerManager().transform_cell(source))
    except Exception:  # the run will report what is wrong with the cell
        return source


def expand_magics(tree: ast.Module) -> None:
    """Replace the source that magics such as `%%time` run by its syntax tree, also in nested magics."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or find_name(node.func) not in RUNS_MAGIC or not node.args:
            continue
        first, last = get_string(node.args[0]), get_string(node.args[-1])
        if first not in PYTHON_MAGICS or last is None:
            continue
        inner = parse_code(last) or parse_code(transform(last))
        if inner is not None:
            expand_magics(inner)
            node.args[-1] = ast.Module(inner.body, [])  # type: ignore[call-overload]
        for middle in node.args[1:-1]:
            if isinstance(middle, ast.Constant) and isinstance(middle.value, str):
                middle.value = middle.value.strip()
