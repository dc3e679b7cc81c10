"""Detect numbers that stand for a missing value: -999, a survey's 99 on a scale of 1 to 5, a sensor's fault code.

A placeholder repeats at one end of a column, far from all other values. Only numbers made of nines, -1 and survey codes
are also suspicious by their digits; any other number has to occur in several columns of the same rows, or be negative
in a column without other negative values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labkit.features.table_columns import find_column_kind

SURVEY_CODES = (99.0, 98.0, 97.0, 88.0, 77.0, 66.0, -9.0, -8.0, -7.0)
"""Codes that surveys use for "no response", "does not apply" and the like, next to a scale."""
NINES = (-99.0, *(sign * (10.0**n_digits - 1) for n_digits in range(3, 16) for sign in (1, -1)))
"""Numbers made of nines only, up to the number of digits that a float represents exactly."""
LONGEST_SCALE = 12
FEWEST_TIMES, FEWEST_ALONE = 3, 10
"""Minimum number of occurrences: in general, and if its position is the only evidence."""
FEWEST_OTHERS, MANY_OTHERS = 3, 10
"""Minimum number of other distinct values: when found by digits, and by position."""
NEAR, FAR = 0.5, 2.0
"""Minimum distance to the nearest other value, as a multiple of their range: by digits, and by position."""
SAME_ROWS_SHARE = 0.5


@dataclass(frozen=True)
class Placeholder:
    """A number that stands for a missing value.

    Attributes
    ----------
    n_rows
        Number of rows in which it occurs.
    beside
        Other columns in which it occurs in the same rows.
    """

    value: float
    n_rows: int
    beside: tuple[str, ...] = ()

    @property
    def number(self) -> int | float:
        """The value, as an int if it is an integer."""
        return int(self.value) if self.value.is_integer() else self.value


def find_placeholders(frame: pd.DataFrame) -> dict[str, list[Placeholder]]:
    """Return the placeholders of each numeric column that has any.

    >>> frame = pd.DataFrame({"x": [1.0, 2, 3, -999, 2, 5, -999, 1, 4, -999], "y": range(10)})
    >>> find_placeholders(frame)["x"][0].number
    -999
    """
    columns = list_numbers(frame)
    found = {name: find_by_digits(values) for name, values in columns.items()}
    for name, placeholders in find_by_place(columns).items():
        known = {placeholder.value for placeholder in found[name]}
        found[name] += [placeholder for placeholder in placeholders if placeholder.value not in known]
    return {name: placeholders for name, placeholders in found.items() if placeholders}


def find_target_placeholders(frame: pd.DataFrame, target: str) -> list[Placeholder]:
    """Return the placeholders of one column; the other columns are examined only if it may have any.

    >>> find_target_placeholders(pd.DataFrame({"x": [1.0, 2, 3, -999, 2, 5, -999, 1, 4, -999]}), "x")[0].n_rows
    3
    """
    column = list_numbers(frame[[target]]).get(target)
    if column is None or not (find_by_digits(column) or list(find_far(column))):
        return []
    return find_placeholders(frame).get(target, [])


def list_numbers(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the numeric columns as float arrays, missing values as NaN."""
    return {
        str(name): frame[name].to_numpy(dtype="float64", na_value=np.nan)
        for name in frame.columns
        if find_column_kind(frame[name]) == "number"
    }


def find_by_digits(column: np.ndarray) -> list[Placeholder]:
    """Return numbers made of nines, -1 and survey codes that lie apart from all other values.

    Survey codes of one or two digits count only next to a scale of a few integers.

    >>> scale = np.array([1.0, 2, 3, 4, 5, 99, -9] * 3)
    >>> [placeholder.number for placeholder in find_by_digits(scale)]
    [99, -9]
    >>> find_by_digits(np.array([*range(18, 90), 99.0, 99, 99]))
    []
    """
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    found: list[Placeholder] = []
    candidates = values[np.isin(values, (*SURVEY_CODES, -1.0, *NINES))]
    for value in sorted(candidates, key=lambda value: (value in SURVEY_CODES, abs(value) < 100)):
        times = int(counts[values == value][0])
        others = values[values != value]
        rest = others[~np.isin(others, SURVEY_CODES if value in SURVEY_CODES else NINES)]
        if times < FEWEST_TIMES or len(rest) < FEWEST_OTHERS or (value in SURVEY_CODES and not is_scale(rest)):
            continue
        if value == -1 and (rest[0] < 0 or times < FEWEST_ALONE):
            continue
        if is_apart(value, rest, NEAR if value not in SURVEY_CODES and value != -1 else 1.0):
            found.append(Placeholder(float(value), times))
            values, counts = others, counts[values != value]
    return sorted(found, key=lambda placeholder: -abs(placeholder.value))


def is_scale(rest: np.ndarray) -> bool:
    """Return whether values are a scale of a few integers, as in surveys."""
    return bool(len(rest) <= LONGEST_SCALE and (rest % 1 == 0).all() and rest[-1] - rest[0] < LONGEST_SCALE)


def is_apart(value: float, rest: np.ndarray, least: float) -> bool:
    """Return whether a number lies below or above sorted values by more than `least` times their range."""
    span = max(rest[-1] - rest[0], 1.0)
    return bool(value < rest[0] - least * span or value > rest[-1] + least * span)


def find_by_place(columns: dict[str, np.ndarray]) -> dict[str, list[Placeholder]]:
    """Return outlying numbers, whatever their digits, shared by several columns in the same rows, or below zero."""
    far = {name: list(find_far(values)) for name, values in columns.items()}
    holders: dict[float, list[str]] = {}
    for name, placeholders in far.items():
        for placeholder in placeholders:
            holders.setdefault(placeholder.value, []).append(name)
    found: dict[str, list[Placeholder]] = {}
    for value, names in holders.items():
        is_there = {name: columns[name] == value for name in names}
        for name in names:
            beside = [other for other in names if other != name and share_rows(is_there[name], is_there[other])]
            times = int(is_there[name].sum())
            others = columns[name][np.isfinite(columns[name]) & ~is_there[name]]
            if beside or (value < 0 <= others.min() and times >= FEWEST_ALONE):
                found.setdefault(name, []).append(Placeholder(value, times, tuple(beside)))
    return found


def find_far(column: np.ndarray) -> Iterable[Placeholder]:
    """Yield the smallest and the largest number of a column if it repeats, is not zero and lies far from all others."""
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    if len(values) <= MANY_OTHERS:
        return
    for value, times, rest in ((values[0], counts[0], values[1:]), (values[-1], counts[-1], values[:-1])):
        # Zero is usually a real count or measurement.
        if value != 0 and times >= FEWEST_TIMES and is_apart(value, rest, FAR):
            yield Placeholder(float(value), int(times))


def share_rows(is_here: np.ndarray, is_there: np.ndarray) -> bool:
    """Return whether a number occurs in two columns in mostly the same rows."""
    shared = int((is_here & is_there).sum())
    return shared >= FEWEST_TIMES and shared >= SAME_ROWS_SHARE * min(int(is_here.sum()), int(is_there.sum()))


def describe_placeholder(placeholder: Placeholder) -> str:
    """Describe how often a placeholder occurs in a column, and where else.

    >>> describe_placeholder(Placeholder(-200.0, 10, ("humidity",)))
    "-200 occurs 10 times, far from all other values, in the same rows as in 'humidity'"
    """
    shown = " and ".join(map(repr, placeholder.beside[:2]))
    more = f" and {len(placeholder.beside) - 2} more columns" if len(placeholder.beside) > 2 else ""
    beside = f", in the same rows as in {shown}{more}" if placeholder.beside else ""
    return f"{placeholder.number} occurs {placeholder.n_rows:,} times, far from all other values{beside}"


def mask_placeholders(frame: pd.DataFrame, found: Mapping[str, list[Placeholder]]) -> pd.DataFrame:
    """Return the table with placeholders replaced by missing values."""
    masked = {
        name: frame[name].mask(frame[name].isin([each.value for each in placeholders]))
        for name, placeholders in found.items()
        if name in frame.columns
    }
    return frame.assign(**masked) if masked else frame
