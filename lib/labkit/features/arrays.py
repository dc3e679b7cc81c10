"""Conversion of a column's values to arrays: raw values on the way in, features on the way out.

The features themselves are computed in `labkit.features.row_features`.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.features import expressions
from labkit.features.dictionary import convert_dictionary
from labkit.features.parse_text import read_date

USUAL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z?")
MANY_TIMES = 16
"""From this number of times on, comparing all with the form of the first takes less than a regular expression."""
FIRST_YEAR = "0001"


def make_array(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Convert raw values to an array of the column's kind.

    Parameters
    ----------
    values
        Raw values, shape (n_rows,).
    kind
        `number`, `boolean`, `time` or `category`.
    name
        Name of the column, for error messages.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,): float64 (missing: NaN), `datetime64[us]` in UTC (NaT) or strings (None).

    Raises
    ------
    DataError
        A value is not a number, or not a time.
    """
    array = np.asarray(values)
    if kind == "time":
        return make_times(array, name)
    if kind == "category":
        if (made := convert_dictionary(values, make_categories)) is not None:
            return made
        if array.dtype == object and {*map(type, array.tolist())} <= {str, type(None)}:
            return array
        given = array.tolist() if array.dtype.kind in "iufO" else [*array]
        return make_categories(given)
    try:
        if array.dtype == object:
            array = np.where(expressions.is_missing(array), np.nan, array)
        return array.astype("float64")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"column {name!r}: {find_invalid(array, float)} is not a number: give numbers") from error


def make_numbers(columns: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Return columns of numbers behind one another, NaN where one is missing, float64, shape (n_columns * n_rows,)."""
    n_values = sum(map(len, columns))
    try:
        return np.fromiter(chain.from_iterable(columns), "float64", count=n_values)
    except TypeError:
        given = [math.nan if value is None else value for value in chain.from_iterable(columns)]
        return np.fromiter(given, "float64", count=n_values)


def make_categories(values: Sequence[Any]) -> np.ndarray:
    """Return values as categories, None where one is missing, shape (n_rows,)."""
    return make_objects([value if type(value) is str else make_category(value) for value in values])


def make_category(value: Any) -> str | None:
    """Return a value as a category, None if it is missing."""
    return None if expressions.is_missing_value(value) else str(number_to_string(value))


def make_objects(values: Sequence[Any]) -> np.ndarray:
    """Return Python values, which may be lists, as an object array, shape (n_rows,)."""
    return np.fromiter(values, object, count=len(values))


def find_invalid(values: np.ndarray, read: Callable[[Any], object]) -> str:
    """Return the repr of the first value that a function cannot read.

    Parameters
    ----------
    values
        Values to try, shape (n_rows,).
    read
        Function that raises TypeError, ValueError or OverflowError for invalid values.
    """
    for value in values.tolist():
        try:
            read(value)
        except (TypeError, ValueError, OverflowError):
            return repr(value)
    return "a value"


def make_times(values: np.ndarray, name: str) -> np.ndarray:
    """Convert times to naive UTC.

    Parameters
    ----------
    values
        Array of times, or ISO 8601 strings as sent in requests, shape (n_rows,).
    name
        Name of the column, for error messages.

    Returns
    -------
    numpy.ndarray
        `datetime64[us]`, shape (n_rows,); NaT where a time is missing.

    Raises
    ------
    DataError
        A value is not an ISO 8601 time.
    """
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]")
    given = values.tolist()
    if (usual := read_usual_times(given)) is not None:
        return usual
    try:
        known = [
            convert_time(value) if type(value) is str or not expressions.is_missing_value(value) else None
            for value in given
        ]
    except (TypeError, ValueError) as error:
        odd = find_invalid(values[~expressions.is_missing(values)], convert_time)
        raise DataError(f"column {name!r}: {odd} is not a time: give ISO 8601 times") from error
    return np.array(known, "datetime64[us]")


def read_usual_times(values: Sequence[Any]) -> np.ndarray | None:
    """Parse times of the usual form at once, as `convert_time` does one by one.

    Parameters
    ----------
    values
        Values of a column, None where one is missing.

    Returns
    -------
    numpy.ndarray or None
        `datetime64[us]`, shape (n_rows,); None unless all are of the usual form: date and time to the second or below,
        in UTC.
    """
    known = [value for value in values if value is not None]
    if {*map(type, known)} != {str} or not USUAL_TIME.fullmatch(known[0]):
        return None
    try:
        times = read_alike(known) if len(known) >= MANY_TIMES else read_few(known)
    except ValueError:  # one that does not exist, such as a 30 February, or other characters than ASCII's
        return None
    if times is None or min(known) < FIRST_YEAR:
        return None
    if len(known) == len(values):
        return times
    found = np.full(len(values), np.datetime64("NaT", "us"))
    found[[value is not None for value in values]] = times
    return found


def read_few(strings: Sequence[str]) -> np.ndarray | None:
    """Parse times; None unless all are of the usual form."""
    if not all(map(USUAL_TIME.fullmatch, strings)):
        return None
    return np.array([string.removesuffix("Z") for string in strings], "datetime64[us]")


def read_alike(strings: Sequence[str]) -> np.ndarray | None:
    """Parse times; None unless all are of the form of the first, which is the usual one."""
    first = strings[0]
    length, n_plain = len(first), len(first.removesuffix("Z"))
    if {*map(len, strings)} != {length}:
        return None
    characters = np.array(strings, f"S{length}").view("uint8").reshape(len(strings), length)
    is_digit = (characters >= ord("0")) & (characters <= ord("9"))
    if not np.where(is_digit[0], is_digit, characters == characters[0]).all():
        return None
    return np.ascontiguousarray(characters[:, :n_plain]).view(f"S{n_plain}").ravel().astype("datetime64[us]")


def convert_time(value: Any) -> datetime:
    """Return one time as naive UTC; a time without a zone is taken as UTC.

    Raises
    ------
    ValueError
        The value is neither a time nor an ISO 8601 string.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC)).replace(tzinfo=None)
    found = read_date(value, None) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a time")
    return found


def number_to_string(value: Any) -> Any:
    """Return a number as a string, whole numbers without a fraction; other values unchanged.

    All numeric keys and categories follow this rule: 3 and 3.0 are the same.

    >>> number_to_string(3.0), number_to_string(2.5), number_to_string(None)
    ('3', '2.5', None)
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def find_feature_kind(values: np.ndarray) -> str:
    """Return the kind of a feature.

    Parameters
    ----------
    values
        Values of the feature, shape (n_rows,).

    Returns
    -------
    str
        `number` or `category`. If all values are missing, an object array is a category, any other a number.

    Raises
    ------
    DataError
        The values are times or durations.
    """
    if values.dtype.kind in "mM":
        raise DataError("an expression gives times, which no model accepts: divide a duration by hours(1)")
    if values.dtype != object:
        return "number"
    known = values[~expressions.is_missing(values)]
    return "number" if len(known) and not any(isinstance(value, str) for value in known) else "category"


def make_feature(values: np.ndarray, kind: str) -> np.ndarray:
    """Convert a feature to the form that estimators take.

    The kind is given rather than inferred: a single row may hold only None where the training rows held numbers.

    Parameters
    ----------
    values
        Computed values, shape (n_rows,).
    kind
        `number` or `category`.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,): float64 that float32 represents exactly, infinite values as NaN; or strings, missing ones as
        `""`.
    """
    if kind == "category":
        missing = expressions.is_missing(values)
        return np.array(
            ["" if is_absent else str(value) for value, is_absent in zip(values, missing, strict=True)], object
        )
    return round_to_single(values).astype("float64")


def round_to_single(values: np.ndarray) -> np.ndarray:
    """Return numbers as float32, infinite ones and those beyond its range as NaN, in the same shape."""
    with np.errstate(over="ignore"):
        rounded = values.astype("float32")
    if np.count_nonzero(is_infinite := np.isinf(rounded)):
        rounded[is_infinite] = np.nan
    return rounded
