"""Valid values of parameters: plain data that JSON, YAML and Python read as the same value.

These rules apply to params files, `-S`, arguments of `labkit.start` in a notebook, and values injected into a notebook.
The parameters themselves are declared in `labkit.params` and `labkit.run.notebook.parameters`.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

from labkit.errors import ParamsError
from labkit.units import format_count

DEEPEST_NESTING = 10
LARGEST_STRING_BYTES = 65_536
MOST_DIGITS = 4_300
"""Python itself refuses to convert longer integers to or from strings."""

INSTEAD = {
    "tuple": "a list",
    "set": "a list",
    "frozenset": "a list",
    "bytes": "a string",
    "bytearray": "a string",
    "datetime": "an ISO string",
    "date": "an ISO string",
    "time": "an ISO string",
    "Timestamp": "an ISO string",
    "datetime64": "an ISO string",
    "timedelta": "a number of seconds",
    "Decimal": "a number or a string",
    "Fraction": "a number",
    "PosixPath": "a string",
    "complex": "two numbers",
    "Secret": "its name; a notebook gets the value by step.secret",
}


def check_value(value: Any, name: str, *, allow_nan: bool = False, depth: int = 0) -> Any:
    """Return a value as plain data: numpy scalars and arrays as Python numbers and lists, other values unchanged.

    Parameters
    ----------
    value
        Value to check.
    name
        Name of the value, for error messages.
    allow_nan
        Whether numbers may be infinite or NaN.
    depth
        Number of lists and mappings around the value.

    Raises
    ------
    ParamsError
        It is not plain data, is nested too deeply, is too long, or is not finite.

    Examples
    --------
    >>> check_value({"folds": [3, 5]}, "training")
    {'folds': [3, 5]}
    >>> check_value((1, 2), "folds")
    Traceback (most recent call last):
    labkit.errors.ParamsError: folds is a tuple: write a list
    """
    value = convert_numpy(value)
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return check_string(value, name)
    if type(value) in (int, float):
        return check_number(value, name, allow_nan=allow_nan)
    is_list, is_mapping = isinstance(value, list), isinstance(value, Mapping)
    if not (is_list or is_mapping) or isinstance(value, Enum):
        kind = "Enum" if isinstance(value, Enum) else type(value).__name__
        raise ParamsError(f"{name} is a {kind}: write {INSTEAD.get(kind, 'a plain number, string, list or mapping')}")
    if depth >= DEEPEST_NESTING:
        raise ParamsError(f"{name} is nested more than {DEEPEST_NESTING} deep: flatten it")
    if is_list:
        return [check_value(item, f"{name}[{n}]", allow_nan=allow_nan, depth=depth + 1) for n, item in enumerate(value)]
    return {
        check_key(key, name): check_value(item, f"{name}.{key}", allow_nan=allow_nan, depth=depth + 1)
        for key, item in value.items()
    }


def convert_numpy(value: Any) -> Any:
    """Convert numpy scalars and arrays to Python values, without importing numpy."""
    if type(value).__module__.partition(".")[0] != "numpy" or not hasattr(value, "tolist"):
        return value
    plain = value.tolist()
    # A type without a Python equivalent, such as long double, comes back unchanged; it is refused later by its name.
    return value if type(plain) is type(value) else plain


def check_string(string: str, name: str) -> str:
    """Return a string if it is valid Unicode and not too long.

    Parameters
    ----------
    string
        String to check.
    name
        Name of the value, for error messages.

    Raises
    ------
    ParamsError
        It is not valid.
    """
    try:
        n_bytes = len(string.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ParamsError(
            f"{name} is not valid Unicode: a lone surrogate at character {error.start + 1}: write the character itself"
        ) from error
    if n_bytes > LARGEST_STRING_BYTES:
        raise ParamsError(
            f"{name} is a string of {format_count(n_bytes, 'byte')}, over {LARGEST_STRING_BYTES:,}: put it into a file"
        )
    return string


def check_number(number: float, name: str, *, allow_nan: bool) -> float:
    """Return a number if it can be printed and is finite, or need not be."""
    if isinstance(number, int):
        if abs(number) >= 10**MOST_DIGITS:
            raise ParamsError(f"{name} is an integer of more than {MOST_DIGITS:,} digits: use a float")
    elif not allow_nan and not math.isfinite(number):
        raise ParamsError(f"{name} is {number}: use plain finite values")
    return number


def write_number(number: float) -> str:
    """Return a number without an exponent: YAML 1.1 and 1.2 disagree on whether some exponents are numbers or strings.

    >>> write_number(2e-08), write_number(-1.5e22), write_number(3), write_number(0.1)
    ('0.00000002', '-15000000000000000000000.0', '3', '0.1')
    """
    if isinstance(number, int) or not math.isfinite(number):
        return str(number)
    digits = format(Decimal(repr(float(number))), "f")
    return digits if "." in digits else f"{digits}.0"


def check_key(key: Any, name: str) -> str:
    """Return a mapping's key if it is a string: JSON and YAML would convert other types to strings."""
    if type(key) is not str:
        raise ParamsError(f"{name} has a key of type {type(key).__name__}: keys are strings")
    return check_string(key, f"a key of {name}")
