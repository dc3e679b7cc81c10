"""Expressions over columns, as declared in params files: a small, closed subset of Python on numpy arrays.

`bmi * bp`, `log1p(fare)`, `where(age < 18, 0, 1)`, `col("mean area") / 2`, `not missing(dep_time)`, `at +
minutes(delay)`, `(end - start) / hours(1)`. Names are always columns; there are no attributes, subscripts, loops or
imports that could reach anything else.
"""

import ast
import keyword
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np

from labkit.errors import ParamsError, list_briefly, name_nearest
from labkit.features.parse_text import read_date
from labkit.names import normalize_spaces

Evaluation = Callable[[Mapping[str, np.ndarray]], Any]
"""A compiled expression: columns in, values out."""
LONGEST_EXPRESSION = 500
DEEPEST_EXPRESSION = 30


def is_missing(values: Any) -> np.ndarray:
    """Return which values are missing: NaN, NaT, None or pandas' NA.

    Parameters
    ----------
    values
        Array or scalar.

    Returns
    -------
    numpy.ndarray
        Booleans of the same shape.
    """
    array = np.asarray(values)
    if array.dtype.kind in "fmM":
        return np.isnan(array)
    if array.dtype == object:
        missing = [type(value) is not str and is_missing_value(value) for value in array.ravel().tolist()]
        return np.array(missing, bool).reshape(array.shape)
    return np.zeros(array.shape, bool)


def is_missing_value(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pandas' NA, whose comparisons return NA instead of a boolean."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def make_length(values: Any, microseconds: int) -> np.ndarray:
    """Convert numbers to durations, given the microseconds in their unit; NaN and infinite numbers become NaT."""
    numbers = np.asarray(values, dtype="float64") * microseconds
    whole = np.where(np.isfinite(numbers), numbers, 0).round().astype("int64").astype("timedelta64[us]")
    return np.where(np.isfinite(numbers), whole, np.timedelta64("NaT", "us"))


def is_in(values: Any, *options: Any) -> np.ndarray:
    """Return which values equal one of the options."""
    array = np.asarray(values)
    found = np.zeros(array.shape, bool)
    for option in options:
        found |= np.asarray(array == option, bool)
    return found


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "clip": lambda values, low, high: np.clip(values, low, high),
    "days": lambda values: make_length(values, 86_400_000_000),
    "exp": np.exp,
    "floor": np.floor,
    "hours": lambda values: make_length(values, 3_600_000_000),
    "isin": is_in,
    "log": np.log,
    "log1p": np.log1p,
    "max": lambda first, *others: reduce(np.fmax, others, first),
    "min": lambda first, *others: reduce(np.fmin, others, first),
    "minutes": lambda values: make_length(values, 60_000_000),
    "missing": is_missing,
    "round": lambda values, digits=0: np.round(values, int(digits)),
    "sign": np.sign,
    "sqrt": np.sqrt,
    "where": lambda is_first, first, second: np.where(is_first, first, second),
}
OPERAND_KINDS = {"O": "strings", "U": "strings", "M": "times", "m": "durations", "b": "booleans"}
# These take columns unchanged; all other functions and arithmetic convert to floats.
UNCONVERTED = {"isin", "missing", "where"}
ARGUMENTS = {
    "clip": (3, 3),
    "isin": (1, LONGEST_EXPRESSION),
    "max": (1, LONGEST_EXPRESSION),
    "min": (1, LONGEST_EXPRESSION),
    "round": (1, 2),
    "where": (3, 3),
}
"""Minimum and maximum number of arguments by function; functions not listed take one."""
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.float_power,
    ast.BitAnd: np.logical_and,
    ast.BitOr: np.logical_or,
}
LOGICAL = (ast.BitAnd, ast.BitOr)
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda left, right: np.asarray(left) == right,
    ast.NotEq: lambda left, right: np.asarray(left) != right,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Not: np.logical_not,
    ast.Invert: np.logical_not,
}


def compute(expression: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute an expression over columns.

    Parameters
    ----------
    expression
        The expression.
    columns
        Arrays of shape (n_rows,), by column.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,). Undefined results, such as a division by zero, are NaN.

    Raises
    ------
    ParamsError
        The expression is invalid, names a missing column, or mixes incompatible kinds of values.

    Examples
    --------
    >>> compute("a / b", {"a": np.array([1.0, 2.0]), "b": np.array([2.0, 0.0])})
    array([0.5, nan])
    """
    evaluate = compile_expression(expression)
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(evaluate(columns))
    except (TypeError, ValueError, OverflowError) as error:
        raise ParamsError(
            f"expression {expression!r}: its operations are not defined for {describe_kinds(expression, columns)}: "
            "compute and compare values of one type"
        ) from error
    if values.dtype.kind == "f" and np.count_nonzero(is_infinite := np.isinf(values)):
        values = np.where(is_infinite, np.nan, values)
    if values.dtype.kind == "U":
        values = values.astype(object)
    n_rows = len(next(iter(columns.values()))) if columns else 1
    return np.broadcast_to(values, (n_rows,)).copy() if values.ndim == 0 else values


def describe_kinds(expression: str, columns: Mapping[str, np.ndarray]) -> str:
    """Describe what the columns of an expression hold, for an error message."""
    kinds = {name: OPERAND_KINDS.get(columns[name].dtype.kind, "numbers") for name in find_names(expression)}
    return list_briefly(f"{name} ({kind})" for name, kind in kinds.items()) or "its constants"


def find_names(expression: str) -> list[str]:
    """Return the columns that an expression names, without duplicates, in order of appearance.

    >>> find_names('bmi * col("mean area") + bmi')
    ['bmi', 'mean area']
    """
    nodes = list(ast.walk(parse_expression(expression)))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    found = []
    for node in nodes:
        if isinstance(node, ast.Call) and is_column_call(node):
            found.append((node.lineno, node.col_offset, str(node.args[0].value)))  # type: ignore[attr-defined]
        elif isinstance(node, ast.Name) and id(node) not in called:
            found.append((node.lineno, node.col_offset, node.id))
    return list(dict.fromkeys(name for _, _, name in sorted(found)))


def find_functions(expression: str) -> set[str]:
    """Return the functions that an expression calls.

    >>> find_functions("log(abs(x))") == {"log", "abs"}
    True
    """
    calls = (node for node in ast.walk(parse_expression(expression)) if isinstance(node, ast.Call))
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


def write_name(name: str) -> str:
    """Return a column's name as written in expressions.

    >>> write_name("bmi"), write_name("mean area"), write_name("class")
    ('bmi', "col('mean area')", "col('class')")
    """
    is_plain = name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
    return name if is_plain else f"col({name!r})"


@cache
def parse_expression(expression: str) -> ast.expr:
    """Parse an expression; refuse everything outside the language."""
    if len(expression) > LONGEST_EXPRESSION:
        raise ParamsError(f"expression of {len(expression)} characters: at most {LONGEST_EXPRESSION}")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ParamsError(f"expression {expression!r}: not an expression ({type(error).__name__})") from error
    check_node(tree, expression, 0)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and is_column_call(node):
            node.args[0] = ast.copy_location(ast.Constant(normalize_spaces(node.args[0].value)), node.args[0])  # type: ignore[attr-defined]
    return tree


def check_node(node: ast.expr, expression: str, depth: int) -> None:
    """Refuse a node that the language does not allow."""
    if depth > DEEPEST_EXPRESSION:
        raise ParamsError(f"expression {expression[:40]!r} …: nested more than {DEEPEST_EXPRESSION} deep")
    match node:
        case ast.Name() | ast.Constant(value=bool() | float() | str() | None):
            children: list[ast.expr] = []
        case ast.Constant(value=int(value)) if abs(value) < 2**53:
            children = []
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in BINARY:
            children = [left, right]
        case ast.UnaryOp(op=operator, operand=operand) if type(operator) in UNARY:
            children = [operand]
        case ast.BoolOp(values=values):
            children = values
        case ast.Compare(left=left, ops=operators, comparators=others) if all(
            type(o) in COMPARISONS for o in operators
        ):
            children = [left, *others]
        case ast.Call(func=ast.Name(id="col")) if is_column_call(node):
            children = []
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            check_count(name, len(arguments), expression)
            children = arguments
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            near = name_nearest(name, [*FUNCTIONS, "col"])
            raise ParamsError(f"expression {expression!r}: no function {name!r}: {near}")
        case _:
            found = ast.get_source_segment(expression.strip(), node) or type(node).__name__
            raise ParamsError(
                f"expression {expression!r}: {found[:40]!r} is not allowed: use columns, numbers and functions"
            )
    for child in children:
        check_node(child, expression, depth + 1)


def check_count(name: str, n_arguments: int, expression: str) -> None:
    """Refuse a call with too few or too many arguments."""
    least, most = ARGUMENTS.get(name, (1, 1))
    if not least <= n_arguments <= most:
        wanted = f"{least} argument{'s' if least > 1 else ''}" if least == most else f"at least {least}"
        wanted = f"{least} or {most} arguments" if least < most < LONGEST_EXPRESSION else wanted
        raise ParamsError(f"expression {expression!r}: {name} takes {wanted}, not {n_arguments}")


def is_column_call(node: ast.Call) -> bool:
    """Return whether a call is `col("a name")`."""
    return (
        isinstance(node.func, ast.Name)
        and node.func.id == "col"
        and len(node.args) == 1
        and not node.keywords
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    )


@cache
def compile_expression(expression: str) -> Evaluation:
    """Compile an expression to a function that takes columns and returns values."""
    return compile_node(parse_expression(expression), expression)


def compile_node(node: ast.expr, expression: str) -> Evaluation:
    """Compile a checked node."""
    match node:
        case ast.Constant(value=value):
            return lambda columns: value
        case ast.Name(id=name):
            return lambda columns: find_column(name, columns, expression)
        case ast.BinOp(left=left, op=operator, right=right):
            compile_side = compile_node if isinstance(operator, LOGICAL) else compile_real
            first, second = compile_side(left, expression), compile_side(right, expression)
            combine = BINARY[type(operator)]
            return lambda columns: combine(first(columns), second(columns))
        case ast.UnaryOp(op=sign, operand=operand):
            taken, change = compile_real(operand, expression), UNARY[type(sign)]
            return lambda columns: change(taken(columns))
        case ast.BoolOp(op=word, values=values):
            join = np.logical_and if isinstance(word, ast.And) else np.logical_or
            parts = compile_all(values, expression)
            return lambda columns: reduce(join, [part(columns) for part in parts])
        case ast.Compare(left=left, ops=operators, comparators=others):
            start, compared = compile_node(left, expression), compile_all(others, expression)
            return lambda columns: compare_chain(start(columns), operators, [other(columns) for other in compared])
        case ast.Call(func=ast.Name(id="col"), args=[ast.Constant(value=str(written))]):
            return lambda columns: find_column(written, columns, expression)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            compile_argument, function = (compile_node if name in UNCONVERTED else compile_real), FUNCTIONS[name]
            given = [compile_argument(argument, expression) for argument in arguments]
            return lambda columns: function(*[argument(columns) for argument in given])
    raise ParamsError(f"expression {expression!r}: not allowed")


def compile_all(nodes: Sequence[ast.expr], expression: str) -> list[Evaluation]:
    """Compile several nodes."""
    return [compile_node(node, expression) for node in nodes]


def compile_real(node: ast.expr, expression: str) -> Evaluation:
    """Compile a node for use in arithmetic; see `make_real`."""
    if isinstance(node, ast.Constant):
        number = make_real(node.value)
        return lambda columns: number
    evaluate = compile_node(node, expression)
    return lambda columns: make_real(evaluate(columns))


def make_real(value: Any) -> Any:
    """Convert integers and booleans to floats; return other values unchanged."""
    array = np.asarray(value)
    # Avoids overflow and truncation. A training table may hold integers where a request holds floats, and both must
    # give the same result.
    return array.astype("float64") if array.dtype.kind in "iub" else array


def compare_chain(left: Any, operators: list[ast.cmpop], others: list[Any]) -> Any:
    """Evaluate a chain of comparisons such as `0 < x <= 1`."""
    result: Any = True
    for operator, right in zip(operators, others, strict=True):
        sides = [make_comparable(left, beside=right), make_comparable(right, beside=left)]
        result = np.logical_and(result, COMPARISONS[type(operator)](*sides))
        left = right
    return result


def make_comparable(value: Any, *, beside: Any) -> Any:
    """Convert a string that is compared with times to a time; return other values unchanged."""
    if not (isinstance(value, str) and isinstance(beside, np.ndarray) and beside.dtype.kind == "M"):
        return value
    if (time := read_date(value, None)) is None:
        raise ValueError(f"{value!r} is not an ISO 8601 time")
    return np.datetime64(time, "us")


def find_column(name: str, columns: Mapping[str, np.ndarray], expression: str) -> np.ndarray:
    """Return a column by its name."""
    if name not in columns:
        raise ParamsError(f"expression {expression!r}: no column {name!r}: {name_nearest(name, columns)}")
    return columns[name]
