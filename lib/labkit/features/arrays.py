"""Values of one column as an array of its kind: raw ones on the way in, features on the way out.

Not what is computed from them: that is `labkit.features.row_features`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.features import expressions
from labkit.features.parse_text import read_date


def make_array(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Return raw values as numbers (missing: NaN), times (NaT) or texts (None) by the column's kind.

    Raises
    ------
    DataError
        A value is not a number where numbers are needed.
    """
    array = np.asarray(values)
    if kind == "time":
        return make_times(array, name)
    if kind == "category":
        gaps = expressions.is_missing(array)
        strings = [str(number_to_string(value)) for value in (array.tolist() if array.dtype.kind in "iuf" else array)]
        return np.array([None if gap else string for string, gap in zip(strings, gaps, strict=True)], object)
    try:
        if array.dtype == object:
            array = np.where(expressions.is_missing(array), np.nan, array)
        return array.astype("float64")
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r}: {find_invalid(array, float)} is not a number: give numbers") from error


def find_invalid(values: np.ndarray, read: Callable[[Any], object]) -> str:
    """Return the first value that cannot be read so, as it is shown."""
    for value in values.tolist():
        try:
            read(value)
        except (TypeError, ValueError):
            return repr(value)
    return "a value"


def make_times(values: np.ndarray, name: str) -> np.ndarray:
    """Return times as UTC without a zone, `datetime64[us]`: from arrays of times, or from texts as requests bring them.

    Raises
    ------
    DataError
        A value is not an ISO 8601 time.
    """
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]")
    gaps = expressions.is_missing(values)
    try:
        known = [None if gap else convert_time(value) for value, gap in zip(values.tolist(), gaps, strict=True)]
    except (TypeError, ValueError) as error:
        odd = find_invalid(values[~gaps], convert_time)
        raise DataError(f"column {name!r}: {odd} is not a time: give ISO 8601 times") from error
    return np.array(known, "datetime64[us]")


def convert_time(value: Any) -> datetime:
    """Return one time in UTC without its zone; one that has none is UTC."""
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC)).replace(tzinfo=None)
    found = read_date(value, None)
    if found is None:
        raise ValueError(f"{value!r} is not a time")
    return found


def number_to_string(value: Any) -> Any:
    """Return a number as a string, whole ones without a fraction; other values as they are.

    The one rule for keys and categories that are numbers: 3 and 3.0 are the same one.

    >>> number_to_string(3.0), number_to_string(2.5), number_to_string(None)
    ('3', '2.5', None)
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def find_feature_kind(values: np.ndarray) -> str:
    """Return `number` or `category`; a column without any value is as its array says.

    Raises
    ------
    DataError
        It holds times.
    """
    if values.dtype.kind in "mM":
        raise DataError("an expression gives times: no model takes them; divide a length of time by hours(1)")
    if values.dtype != object:
        return "number"
    known = values[~expressions.is_missing(values)]
    return "number" if len(known) and not any(isinstance(value, str) for value in known) else "category"


def make_feature(values: np.ndarray, kind: str) -> np.ndarray:
    """Return a feature as estimators take it: float64 that float32 holds exactly, or texts without None.

    One row may hold nothing but None where the training rows held numbers, so the kind is given, not guessed.
    """
    if kind == "category":
        gaps = expressions.is_missing(values)
        return np.array(["" if gap else str(value) for value, gap in zip(values, gaps, strict=True)], object)
    with np.errstate(over="ignore"):
        rounded = values.astype("float32").astype("float64")
    return np.where(np.isinf(rounded), np.nan, rounded)
