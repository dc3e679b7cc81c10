"""The search space of a sweep: for each parameter, a range of numbers or the values to choose from.

Pure functions; nothing is read or started here. What proposes points in it: `labkit.sweep.search`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labkit.errors import ParamsError, shorten
from labkit.params.plain_values import write_number
from labkit.units import format_count

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(:log)?")
DIGITS = 4
"""Significant digits of proposed numbers, so that they can be read and written."""


@dataclass(frozen=True)
class Range:
    """A range of numbers, its ends included.

    Attributes
    ----------
    low, high
        Its ends; only whole numbers are in it if both are.
    is_log
        Whether 1 to 10 is as wide as 10 to 100.
    """

    low: int | float
    high: int | float
    is_log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are in it."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def write(self, value: float) -> str:
        """Return a number of the range as it is written in a params file.

        >>> Range(0.01, 0.3, is_log=True).write(0.123456)
        '0.1235'
        """
        if self.is_whole:
            return str(round(value))
        return write_number(min(max(float(f"{value:.{DIGITS}g}"), float(self.low)), float(self.high)))


Space = Mapping[str, Range | Sequence[str]]
"""By parameter, a range or the values to choose from, as written."""


def parse_range(value: str) -> Range | None:
    """Return a range, None if the value is none.

    Raises
    ------
    ParamsError
        Its ends are in the wrong order or too large for numbers of a computer, or its logarithm is asked for and it
        does not begin above 0.

    Examples
    --------
    >>> parse_range("0.01..0.3:log")
    Range(low=0.01, high=0.3, is_log=True)
    >>> parse_range("5..50").is_whole
    True
    """
    found = RANGE.fullmatch(value)
    if not found:
        return None
    try:
        low, high = (int(end) if re.fullmatch(r"[+-]?\d+", end) else float(end) for end in found.group(1, 2))
        is_finite = math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)
    except (ValueError, OverflowError):  # too many digits for an integer, or for a float
        is_finite = False
    if not is_finite:
        raise ParamsError(
            f"{shorten(value, 60)}: the ends of a range are finite numbers, and not further apart than 1e308"
        )
    if not low < high:
        raise ParamsError(f"{value}: the lower end of a range comes first: write low..high")
    if found[3] and low <= 0:
        raise ParamsError(f"{value}: a range with :log begins above 0")
    return Range(low, high, bool(found[3]))


def parse_space(offered: Sequence[tuple[str, Sequence[str]]]) -> Space:
    """Return the search space of parameters and their values.

    Raises
    ------
    ParamsError
        A range is malformed or one of several values.
    """
    space: dict[str, Range | Sequence[str]] = {}
    for name, values in offered:
        try:
            ranges = [found for value in values if (found := parse_range(value))]
        except ParamsError as error:
            raise ParamsError(f"-S {name}={error}") from error
        if ranges and len(values) > 1:
            raise ParamsError(f"-S {name}={','.join(values)}: give one range, or values without a range")
        space[name] = ranges[0] if ranges else values
    return space


def check_space(space: Space, n_trials: int) -> None:
    """Raise an error for a space that is smaller than the number of points to propose in it.

    Raises
    ------
    ParamsError
        The message gives the number of combinations.
    """
    sizes = [count_choices(one) for one in space.values()]
    n_all = math.inf if None in sizes else math.prod(size for size in sizes if size)
    if n_all <= n_trials:
        raise ParamsError(
            f"--optuna {n_trials:,}: there are only {format_count(int(n_all), 'combination')}: write the values, "
            "separated by commas, and leave --optuna out to run them all"
        )


def count_choices(one: Range | Sequence[str]) -> int | None:
    """Return how many values there are, None for any number of them."""
    if isinstance(one, Range):
        return int(one.high - one.low) + 1 if one.is_whole else None
    return len(one)


def list_corners(space: Space) -> list[tuple[str, ...]]:
    """Return settings that contain every value and both ends of every range at least once.

    >>> list_corners({"seed": Range(1, 9), "training.folds": ["3", "5"]})
    [('seed=1', 'training.folds=3'), ('seed=9', 'training.folds=3'), ('seed=1', 'training.folds=5')]
    """
    ends = {
        name: [one.write(one.low), one.write(one.high)] if isinstance(one, Range) else list(one)
        for name, one in space.items()
    }
    first = {name: values[0] for name, values in ends.items()}
    chosen = [first] + [first | {name: value} for name, values in ends.items() for value in values[1:]]
    return [tuple(f"{name}={value}" for name, value in one.items()) for one in chosen]
