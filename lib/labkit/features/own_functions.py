"""Features computed by the user's own functions: column arrays in, one array out, each value from its own row alone.

A function's parameters are names of columns. It gets them by name, cleaned, as read-only arrays of shape (n_rows,):
numbers and booleans as float64 (missing: NaN), times as `datetime64[us]` in UTC (NaT), everything else as strings in an
object array (None). A parameter with a default is not a column. Fitted steps are in `labkit.features.own_transformers`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import CodeType
from typing import Any

import numpy as np

from labkit.errors import DataError, HiddenRowsError, ParamsError, get_first_line
from labkit.features.expressions import is_missing
from labkit.features.row_rules import Columns
from labkit.params.import_path import is_foreign, locate_code, resolve_callable
from labkit.params.own_calls import find_raising_line, own_code

PLACE = "features.functions"
REMEDY = "compute each value from its own row alone; what is learned from many rows belongs in features.transformers"
MOST_BITS = 1023
"""Bits of the largest whole number that is below the largest float64."""
CLOCKS = frozenset({"now", "today", "utcnow"})
"""Functions of datetime, pandas and others that return the current time."""
TIMES = frozenset({"DatetimeIndex", "Timestamp", "datetime64", "to_datetime"})
"""Functions that return it for the strings `now` and `today`."""
SINGLE_ROWS = 20
"""Rows that are also computed one by one when a function is checked, evenly spaced."""

Function = Callable[..., Any]
Compute = Callable[[Columns], np.ndarray]
Lead = Callable[[], str]
"""Gives what begins a message: the place in the params and in the code, which takes time to find."""


def resolve_function(path: str, *, where: str) -> Function:
    """Import a function of the user's own, which lies in the checkout's `lib` folder or in a package of a release.

    Any other, such as `os:system`, is refused before it is imported: a release names its functions itself, and carries
    only the user's own.

    Raises
    ------
    ParamsError
        It cannot be imported, or is part of Python or of an installed package.
    """
    if is_foreign(path.partition(":")[0].partition(".")[0]):
        raise ParamsError(
            f"{where}: {path} is neither in lib/ nor carried by the release: call it in a function of your own, in lib/"
        )
    return resolve_callable(path, where=where)


def list_function_columns(path: str, *, where: str) -> list[str]:
    """Return the columns that a function takes: its parameters without a default.

    Parameters
    ----------
    path
        Import path of the function.
    where
        Place in the params, for messages.

    Raises
    ------
    ParamsError
        The function cannot be imported, or takes no columns by name.
    """
    function = resolve_function(path, where=where)
    lead = partial(str, f"{where}: {locate_code(function)}")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ParamsError(f"{lead()}: has no parameter names: call it in a function of your own") from error
    for one in parameters:
        if one.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise ParamsError(f"{lead()}: parameter {str(one)!r} is not the name of a column: name each column")
    names = [one.name for one in parameters if one.default is inspect.Parameter.empty]
    if not names:
        raise ParamsError(f"{lead()}: takes no column: its parameters are the names of the columns that it needs")
    if (call := find_clock(function)) is not None:
        raise ParamsError(
            f"{lead()}: uses the current time ({call}), so the same row would give other values later: compute from a "
            "column with the time of the prediction"
        )
    return names


def find_clock(function: Function) -> str | None:
    """Return the call by which the code of a function asks for the current time; None if there is none.

    >>> find_clock(lambda birth: np.datetime64("now") - birth), find_clock(lambda day: day == "today")
    ('datetime64', None)
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    codes = [] if code is None else [code]
    for one in codes:
        codes += [inner for inner in one.co_consts if isinstance(inner, CodeType)]
        asked = CLOCKS & {*one.co_names}
        named = TIMES & {*one.co_names} if {"now", "today"} & {*filter(is_string, one.co_consts)} else set()
        if asked or named:
            return min(asked or named)
    return None


def is_string(value: object) -> bool:
    """Return whether a value is a string."""
    return isinstance(value, str)


def describe_place(section: str, name: str, found: Any) -> str:
    """Return the place of a function or class in the params and in the code, for messages."""
    return f"{section}.{name}: {locate_code(found)}"


def make_function_specs(functions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return import path and columns of each function, as plain data.

    Parameters
    ----------
    functions
        Import path by name of the new column.
    """
    return {
        name: {"path": path, "columns": list_function_columns(path, where=f"{PLACE}.{name}")}
        for name, path in functions.items()
    }


def compute_function(name: str, spec: Mapping[str, Any], columns: Columns) -> np.ndarray:
    """Return a new column.

    Parameters
    ----------
    name
        Name of the new column.
    spec
        Its entry of `make_function_specs`.
    columns
        Cleaned columns, arrays of shape (n_rows,).

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,): numbers or booleans, or strings in an object array.

    Raises
    ------
    ParamsError
        The function cannot be imported.
    DataError
        It fails, changes its input, or gives something else than one number or string per row.
    """
    function = resolve_function(spec["path"], where=f"{PLACE}.{name}")
    lead = partial(describe_place, PLACE, name, function)
    given = {column: columns[column] for column in spec["columns"]}
    return call_locked(lambda some: check_values(function(**some), count_rows(some), lead), given, lead)


def call_locked(function: Compute, columns: Columns, lead: Lead) -> np.ndarray:
    """Call a function with read-only columns; an error names the first row for which it fails."""
    try:
        with own_code():
            return function(lock(columns))
    except HiddenRowsError as error:
        raise DataError(f"{lead()}: {error}") from error
    except DataError:
        raise
    except Exception as error:  # whatever the user's code raises
        if isinstance(error, ValueError) and "read-only" in str(error):
            raise DataError(f"{lead()}: changes its input, at {find_raising_line(error)}: work on a copy") from error
        fault = f"{type(error).__name__}: {get_first_line(error)}, at {find_raising_line(error)}"
        raise DataError(f"{lead()}: fails for {describe_failing(function, columns)}: {fault}") from error


def describe_failing(function: Compute, columns: Columns) -> str:
    """Return number and values of the first row for which a function fails by itself."""
    first, last = 0, count_rows(columns)
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (first, middle) if is_failing(function, take(columns, slice(first, middle))) else (middle, last)
    row = take(columns, slice(first, last))
    if not is_failing(function, row):
        return "all rows together, but for none of them alone"
    return f"row {first + 1} ({describe_row(row, 0)})"


def is_failing(function: Compute, columns: Columns) -> bool:
    """Return whether a function raises an error."""
    try:
        with own_code():
            function(lock(columns))
    except Exception:  # whatever the user's code raises
        return True
    return False


def check_values(values: Any, n_rows: int, lead: Lead) -> np.ndarray:
    """Return what a function gave as an array, if it is one number or string per row."""
    try:
        found: np.ndarray = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise DataError(
            f"{lead()}: gives lists of different lengths for {n_rows} rows: return an array with one value per row"
        ) from error
    if found.ndim != 1 or len(found) != n_rows:
        single = "nothing" if values is None else f"a single {type(values).__name__}"
        shape = " x ".join(map(str, found.shape)) + " values" if found.ndim else single
        raise DataError(f"{lead()}: gives {shape} for {n_rows} rows: return an array with one value per row, in order")
    if found.dtype.kind in "UT":
        found = found.astype(object)
    odd = next((value for value in found.tolist() if not is_plain(value)), None) if found.dtype.kind == "O" else None
    if found.dtype.kind not in "biufO" or odd is not None:
        what = f"{odd!r:.60}" if odd is not None else f"the type {found.dtype}"
        raise DataError(f"{lead()}: gives {what}, which no model takes: return numbers, booleans or strings")
    return found


def is_plain(value: Any) -> bool:
    """Return whether a value is a string without lone surrogates, a number within float64, or missing."""
    if isinstance(value, str):
        return value.isascii() or value == value.encode("utf-8", "ignore").decode()
    if isinstance(value, int):
        return value.bit_length() <= MOST_BITS
    return value is None or isinstance(value, float | np.number | np.bool_)


def check_function(name: str, spec: Mapping[str, Any], columns: Columns) -> None:
    """Check that a function is deterministic and computes each value from its own row.

    Parameters
    ----------
    name, spec, columns
        See `compute_function`.

    Raises
    ------
    DataError
        See `compute_function`; or the values change when the same rows are given again, in another order, or alone.
    """
    function = resolve_function(spec["path"], where=f"{PLACE}.{name}")
    lead = partial(describe_place, PLACE, name, function)
    check_row_by_row(
        lambda some: compute_function(name, spec, some), {one: columns[one] for one in spec["columns"]}, lead
    )


def check_row_by_row(function: Compute, columns: Columns, lead: Lead) -> None:
    """Raise DataError unless a computation gives the same values for the same rows, whichever others are with them.

    Parameters
    ----------
    function
        Takes columns and returns values, shape (n_rows,) or (n_rows, n_columns).
    columns
        Arrays of shape (n_rows,).
    lead
        Begins the message.
    """
    n_rows = count_rows(columns)
    everything = np.arange(n_rows)
    values = function(columns)
    if (row := find_difference(values, function(columns))) is not None:
        raise DataError(
            f"{lead()}: gives another value for row {row + 1} ({describe_row(columns, row)}) when called again: remove "
            "randomness and whatever it remembers between calls"
        )
    singles = np.unique(np.linspace(0, n_rows - 1, min(SINGLE_ROWS, n_rows)).astype(int)) if n_rows else everything
    trials = {
        "in another order": [np.random.default_rng(0).permutation(everything)],
        "without the other rows": [everything[: n_rows // 2], everything[n_rows // 2 :], everything[::3]],
        "alone": [everything[[row]] for row in singles],
    }
    for how, chosen in trials.items():
        for rows in chosen:
            found = function(take(columns, rows)) if len(rows) else values[rows]
            if (place := find_difference(values[rows], found)) is not None:
                row, values_here = rows[place], (values[rows[place]], found[place])
                raise DataError(
                    f"{lead()}: looks at other rows: row {row + 1} ({describe_row(columns, row)}) gives "
                    f"{write_value(values_here[0])} among all rows and {write_value(values_here[1])} {how}: {REMEDY}"
                )


def find_difference(first: np.ndarray, second: np.ndarray) -> int | None:
    """Return the first row in which two results differ by more than rounding; None if there is none."""
    if first.shape != second.shape:
        return 0
    if {first.dtype.kind, second.dtype.kind} <= {*"biuf"}:
        same = np.isclose(first.astype("float64"), second.astype("float64"), rtol=1e-9, atol=1e-12, equal_nan=True)
    else:
        missing = [is_missing(values.ravel()).reshape(values.shape) for values in (first, second)]
        same = np.where(missing[0] | missing[1], missing[0] == missing[1], first == second)
    rows = np.flatnonzero(~np.asarray(same, bool).reshape(len(first), -1).all(axis=1))
    return int(rows[0]) if len(rows) else None


def lock(columns: Columns) -> Columns:
    """Return plain views of arrays that cannot be written to."""
    views = {name: values.view(np.ndarray) for name, values in columns.items()}
    for values in views.values():
        values.flags.writeable = False
    return views


def take(columns: Columns, rows: Any) -> Columns:
    """Return some rows of all columns."""
    return {name: values[rows] for name, values in columns.items()}


def count_rows(columns: Columns) -> int:
    """Return the number of rows."""
    return len(next(iter(columns.values())))


def describe_row(columns: Columns, row: int) -> str:
    """Return the values of one row, e.g. `start=2024-01-31, plan='basic'`."""
    return ", ".join(f"{name}={write_value(values[row])}" for name, values in columns.items())


def write_value(value: Any) -> str:
    """Return a value as it is shown in messages."""
    if isinstance(value, np.ndarray):
        return f"[{', '.join(map(write_value, value))}]"[:60]
    if isinstance(value, float | np.floating):
        return f"{float(value):.10g}"
    return f"{value!r:.60}" if isinstance(value, str) else str(value)
