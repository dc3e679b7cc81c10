"""The columns that a plot or a check of the user's own reads of its rows, found in its source before it is called."""

import ast
import inspect
import linecache
import textwrap
from collections.abc import Callable
from typing import Any

from labkit.params.import_path import locate_code

ROWS = "rows"
"""The argument by which a function gets a table."""


def list_named_columns(function: Callable[..., Any]) -> list[tuple[str, str]]:
    """Return the columns that a function reads of `rows` by literal names, each with its file and line.

    These are `rows["region"]` and `rows[["region", "plan"]]`. Nothing is returned that the source alone cannot tell: if
    `rows` is assigned to or an argument of an inner function too, and of a column that the function adds, or whose
    presence it asks for.

    Examples
    --------
    >>> list_named_columns(len)
    []
    """
    plain = inspect.unwrap(function)
    try:
        first = plain.__code__.co_firstlineno
        lines = inspect.getblock(linecache.getlines(plain.__code__.co_filename)[first - 1 :])
        nodes = list(ast.walk(ast.parse(textwrap.dedent("".join(lines)))))
    except (AttributeError, SyntaxError):  # written in C, or part of an expression
        return []
    takers = [node for node in nodes if isinstance(node, ast.arg) and node.arg == ROWS]
    if len(takers) != 1 or any(isinstance(node, ast.Name) and node.id == ROWS and not is_read(node) for node in nodes):
        return []
    items = [item for node in nodes for item in find_items(node)]
    unsure = {name for name, node in items if not is_read(node)} | {name for node in nodes for name in find_asked(node)}
    file = locate_code(plain).rpartition(":")[0]
    return [(name, f"{file}:{first + node.lineno - 1}") for name, node in items if name not in unsure]


def find_items(node: ast.AST) -> list[tuple[str, ast.Subscript]]:
    """Return the columns that an expression takes from `rows` by literal names, with the expression."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == ROWS):
        return []
    keys = node.slice.elts if isinstance(node.slice, ast.List) else [node.slice]
    return [(key.value, node) for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def find_asked(node: ast.AST) -> list[str]:
    """Return the name whose presence a comparison such as `"region" in rows` asks for."""
    if not (isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn)):
        return []
    left = node.left
    return [left.value] if isinstance(left, ast.Constant) and isinstance(left.value, str) else []


def is_read(node: ast.Name | ast.Subscript) -> bool:
    """Return whether a name or an item is read, not written or deleted."""
    return isinstance(node.ctx, ast.Load)
