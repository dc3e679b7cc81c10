"""The points of a sweep: every combination of the given values, or some of them drawn at random.

Pure functions; nothing is read or started here.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter

from labkit.console import make_printable
from labkit.errors import ParamsError, list_briefly
from labkit.params.experiment import Params
from labkit.params.load import ParamsFile
from labkit.params.override import override_file
from labkit.params.yaml_text import make_plain
from labkit.sweep.search_space import Range, parse_space
from labkit.units import format_count

MOST_POINTS = 1000
OPENING, CLOSING, QUOTES = "[{(", "]})", "\"'"
NOT_COMPARABLE = (
    "data",
    "wrangling.filters",
    "wrangling.duplicates",
    "wrangling.duplicates_by",
    "training.metric",
    "evaluation.metrics",
)
"""Params that decide what is measured, or on which rows: points that differ in them cannot be ranked."""


@dataclass(frozen=True)
class Point:
    """One set of parameters.

    Attributes
    ----------
    number
        Its place in the sweep, counted from 1.
    settings
        What it sets, each `section.field=value`.
    file
        The params file with these settings; nothing is written.
    """

    number: int
    settings: tuple[str, ...]
    file: ParamsFile

    @property
    def params(self) -> Params:
        """The validated params."""
        return self.file.params

    @property
    def values(self) -> dict[str, str]:
        """The value of each parameter that it sets, as written."""
        return dict(setting.split("=", 1) for setting in self.settings)


def make_points(file: ParamsFile, settings: Sequence[str], *, n_random: int | None = None) -> list[Point]:
    """Return the points of a sweep, each validated like a params file.

    Parameters
    ----------
    file
        The params file that the settings change.
    settings
        Settings, each `section.field=value,value`.
    n_random
        Draw as many of the combinations at random, the same ones each time; None for all of them.

    Raises
    ------
    ParamsError
        A setting is malformed, not valid or changes what is measured, there are too many points, or two of them are the
        same.
    """
    every = expand(settings, n_random=n_random, seed=file.params.seed)
    points = [make_point(file, chosen, number=number) for number, chosen in enumerate(every, 1)]
    check_different(points)
    return points


def make_point(file: ParamsFile, settings: Sequence[str], *, number: int) -> Point:
    """Return one point, validated like a params file.

    Raises
    ------
    ParamsError
        A setting is not valid or changes what is measured.
    """
    point = Point(number, tuple(settings), override_file(file, settings))
    check_comparable(point, file.params)
    return point


def split_settings(settings: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the name and the values of each setting.

    Raises
    ------
    ParamsError
        There is no setting, one is malformed or given twice.
    """
    if not settings:
        raise ParamsError("a sweep needs parameters with their values: -S training.models=[linear],[lightgbm]")
    offered = [split_setting(setting) for setting in settings]
    names = [name for name, _ in offered]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParamsError(
            f"-S {make_printable(twice[0])}: given twice: write its values behind one another, separated by commas"
        )
    return offered


def expand(settings: Sequence[str], *, n_random: int | None = None, seed: int = 0) -> list[tuple[str, ...]]:
    """Return the combinations of the values of each setting, the last setting changing fastest.

    Parameters
    ----------
    settings
        Settings, each `section.field=value,value`.
    n_random
        Draw as many combinations at random, without repetition and in their order; None for all.
    seed
        Seed of the draw.

    Raises
    ------
    ParamsError
        There is no setting, one is malformed or given twice, or the number of points is invalid.

    Examples
    --------
    >>> expand(["training.models=[linear],[lightgbm]", "seed=1,2"])[1]
    ('training.models=[linear]', 'seed=2')
    """
    offered = split_settings(settings)
    for name, one in parse_space(offered).items():
        if isinstance(one, Range):
            raise ParamsError(f"-S {name}: a range needs --optuna N, which proposes N points in it")
    n_all = math.prod(len(values) for _, values in offered)
    if n_random is not None and n_random > n_all:
        raise ParamsError(f"--random {n_random}: there are only {format_count(n_all, 'combination')}")
    if (n_random or n_all) > MOST_POINTS:
        raise ParamsError(
            f"{format_count(n_random or n_all, 'point')}, but at most {MOST_POINTS:,} are allowed: give fewer values, "
            "or draw some of the points with --random"
        )
    written = [[f"{name}={value}" for value in values] for name, values in offered]
    if n_random is None:
        return list(product(*written))
    return [pick(written, place) for place in sorted(draw_places(n_all, n_random, seed=seed))]


def draw_places(n_all: int, n_drawn: int, *, seed: int) -> set[int]:
    """Draw different places of combinations; their number may be larger than a range can be sampled from."""
    source, drawn = random.Random(seed), set[int]()
    while len(drawn) < n_drawn:
        drawn.add(source.randrange(n_all))
    return drawn


def pick(offered: Sequence[Sequence[str]], place: int) -> tuple[str, ...]:
    """Return one combination by its place among all of them.

    >>> [pick([["a", "b"], ["x", "y", "z"]], place) for place in (0, 1, 5)]
    [('a', 'x'), ('a', 'y'), ('b', 'z')]
    """
    chosen = []
    for values in reversed(offered):
        place, at = divmod(place, len(values))
        chosen.append(values[at])
    return tuple(reversed(chosen))


def split_setting(setting: str) -> tuple[str, list[str]]:
    """Return the name and the values of one setting.

    >>> split_setting("training.models=[linear, dummy],[lightgbm]")
    ('training.models', ['[linear, dummy]', '[lightgbm]'])
    """
    name, equals, source = setting.partition("=")
    if not equals:
        raise ParamsError(f"-S {make_printable(setting)}: no '=': write section.field=value,value")
    if make_printable(name) != name:
        raise ParamsError(f"-S {make_printable(name)}: no parameter has such characters in its name")
    values = split_values(source)
    if not all(values):
        raise ParamsError(f"-S {make_printable(setting)}: a value is missing: write section.field=value,value")
    return name.strip(), values


def split_values(source: str) -> list[str]:
    """Split at commas outside of brackets and quotation marks.

    >>> split_values("[1, 2],3,'a,b'")
    ['[1, 2]', '3', "'a,b'"]
    """
    values, depth, quote = [""], 0, ""
    for letter in source:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        else:
            depth += (letter in OPENING) - (letter in CLOSING)
            if letter == "," and depth == 0:
                values.append("")
                continue
        values[-1] += letter
    return [value.strip() for value in values]


def check_comparable(point: Point, params: Params) -> None:
    """Raise an error for a point that could not be ranked with others.

    Parameters
    ----------
    point
        The point.
    params
        Params of the file, by which all points are measured.

    Raises
    ------
    ParamsError
        The message names the parameter.
    """
    for name in NOT_COMPARABLE:
        read = attrgetter(name)
        if read(point.params) != read(params):
            shown = list_briefly(map(make_printable, point.settings))
            raise ParamsError(
                f"point {point.number} ({shown}): {name} decides what is measured, or on which rows, so points that "
                "differ in it cannot be ranked: leave it out, or change the params file before the sweep"
            )


def check_different(points: Iterable[Point]) -> None:
    """Raise an error for two points with the same params.

    Raises
    ------
    ParamsError
        The message names both points.
    """
    seen: list[tuple[object, Point]] = []
    for point in points:
        tree = make_plain(point.file.tree)
        for other, before in seen:
            if other == tree or before.params == point.params:
                shown = list_briefly(map(make_printable, point.settings))
                raise ParamsError(
                    f"points {before.number} and {point.number} are the same ({shown}): give each value once"
                )
        seen.append((tree, point))
