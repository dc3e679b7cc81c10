"""Check the parameters to inject into a notebook: names that its `parameters` cell declares, with plain values.

A parameter's name becomes code when papermill writes it into a cell, and papermill silently accepts unknown names. Both
are checked here before any kernel starts. Params files are read by `labkit.params.load`.
"""

import ast
import builtins
import keyword
import re
from collections.abc import Mapping
from typing import Any

from labkit.errors import ParamsError, name_nearest
from labkit.params.experiment import Params
from labkit.params.load import holds_columns
from labkit.params.plain_values import check_value
from labkit.secrets.detection import describe_secret, find_secret
from labkit.units import format_count

TAG = "parameters"
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Names with a meaning in Python or IPython.
TAKEN = {*dir(builtins), "In", "Out", "display", "exit", "get_ipython", "quit"}
NOT_FINITE = {"nan", "inf", "-inf"}


def check_parameters(notebook: Any, parameters: Mapping[str, Any], *, where: str = "the notebook") -> dict[str, Any]:
    """Return parameters as plain data if the notebook's `parameters` cell declares all of them.

    Parameters
    ----------
    notebook
        As read by `labkit.run.notebook.source.read_source`.
    parameters
        Name → value.
    where
        The notebook's name, for messages.

    Raises
    ------
    ParamsError
        A name is not declared or not a plain identifier; a value is not plain data, has another type than the default,
        or seems to be a secret; or the cell itself is invalid, see `read_defaults`.
    """
    defaults = read_defaults(notebook, where=where)
    checked = {}
    for name, value in parameters.items():
        check_parameter_name(name, where)
        if name not in defaults:
            raise ParamsError(f"{where}: unknown parameter {name}: {name_nearest(name, defaults)}")
        default, place = defaults[name], f"{where}: parameter {name}"
        checked[name] = check_kind(check_value(value, place, allow_nan=is_unbounded(default)), default, place)
    check_open(checked, where)
    return checked


def make_parameters(params: Params) -> dict[str, Any]:
    """Return the parameters that the pipeline injects; notebooks read all others from the params file."""
    return {"experiment": params.experiment}


def read_defaults(notebook: Any, *, where: str = "the notebook") -> dict[str, Any]:
    """Return the names that the `parameters` cell declares, with their defaults.

    Raises
    ------
    ParamsError
        There is not exactly one such cell, or it contains anything but lines `name = value` with plain values.
    """
    tagged = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParamsError(f"{where}: {format_count(len(tagged), 'cell')} are tagged `{TAG}`: tag exactly one")
    cell, defaults = tagged[0], dict[str, Any]()
    if cell.cell_type != "code":
        raise ParamsError(f"{where}: the cell tagged `{TAG}` is {cell.cell_type}: tag a code cell")
    try:
        lines = ast.parse(cell.source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ParamsError(f"{where}: `{TAG}` cell{line}: not plain Python: write `name = value`") from error
    for line in lines:
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str):
            continue  # a string that documents
        name, node = read_assignment(line, cell.source, f"{where}: `{TAG}` cell, line {line.lineno}")
        if name in defaults:
            raise ParamsError(f"{where}: `{TAG}` cell, line {line.lineno}: {name} is set twice: keep one of the lines")
        defaults[name] = read_default(node, name, f"{where}: `{TAG}` cell, line {line.lineno}")
    check_open(defaults, where)
    return defaults


def read_assignment(line: ast.stmt, source: str, where: str) -> tuple[str, ast.expr]:
    """Return name and value of a line `name = value`, with or without an annotation."""
    target = line.targets[0] if isinstance(line, ast.Assign) and len(line.targets) == 1 else None
    target = line.target if isinstance(line, ast.AnnAssign) else target
    value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
    if not isinstance(target, ast.Name) or value is None:
        raise ParamsError(f"{where}: only lines `name = value` belong here: move the rest to the next cell")
    # As written in the source, because Python normalizes look-alike letters in identifiers.
    return check_parameter_name(ast.get_source_segment(source, target) or target.id, where), value


def read_default(node: ast.expr, name: str, where: str) -> Any:
    """Return a default that is a literal, not computed: an override would not affect a value computed before it."""
    if (number := read_not_finite(node)) is not None:
        return number
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ParamsError(
            f"{where}: the default of {name} is computed ({ast.unparse(node)[:60]}), so an override "
            "would not affect it: write a plain value here and compute it in a later cell"
        ) from error
    return check_value(value, f"{where}: {name}", allow_nan=True)


def read_not_finite(node: ast.expr) -> float | None:
    """Return the value of `float("nan")`, `float("inf")` or `float("-inf")`, which are not literals; None otherwise."""
    match node:
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(literal))], keywords=[]):
            return float(literal) if literal in NOT_FINITE else None
    return None


def check_parameter_name(name: Any, where: str) -> str:
    """Return a parameter's name if it is an ASCII identifier without a meaning in Python or IPython."""
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name) or keyword.iskeyword(name):
        shown = ascii(name)[:60] if isinstance(name, str) else f"a {type(name).__name__}"
        raise ParamsError(
            f"{where}: {shown} is not a valid parameter name: use letters a to z, digits and _, and no Python keyword"
        )
    if name in TAKEN:
        raise ParamsError(f"{where}: {name} has a meaning in Python: choose another name for the parameter")
    return name


def check_kind(value: Any, default: Any, place: str) -> Any:
    """Return a value if it has the type of the default; None allows any type, and an int is accepted for a float."""
    if default is None or type(value) is type(default) or (type(default) is float and type(value) is int):
        return value
    found = repr(value)
    shown = found if len(found) <= 60 else f"{found[:57]}…"
    raise ParamsError(
        f"{place} is {shown}, of type {type(value).__name__}: the notebook's default {default!r:.60} is of type "
        f"{type(default).__name__}"
    )


def is_unbounded(default: Any) -> bool:
    """Return whether a default is not finite, which means that the notebook accepts such numbers."""
    return isinstance(default, float) and (default != default or default in (float("inf"), float("-inf")))


def check_open(values: Mapping[str, Any], where: str) -> None:
    """Raise an error for values that seem to be secrets."""
    for keys in find_secret(values, holds_columns=holds_columns):
        raise ParamsError(f"{where}: {describe_secret(keys)}; the notebook gets it by step.secret")
