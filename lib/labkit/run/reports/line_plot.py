"""Line plots as inline SVG: small, without scripts, in the colours of the page, light and dark.

`templates/labkit/plot.html.j2` draws them. Plots of notebooks are made by `labkit.view`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from labkit.units import format_number

WIDTH, HEIGHT = 420, 300
"""Units of the drawing: narrow enough that its letters can be read on a phone."""
LEFT, RIGHT, TOP, BOTTOM = 68, 10, 10, 44
"""Margins around the axes."""
MOST_TICKS = 5
MOST_LISTED = 20
"""Points of a series in the table below the plot, at most."""
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Attributes
    ----------
    x, y
        Coordinates of its points, of the same length; points that are not finite interrupt the line.
    low, high
        Ends of the interval of each point; empty without intervals.
    has_marks
        Whether each point is marked.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    has_marks: bool = False

    def list_points(self) -> list[tuple[float, float, float, float]]:
        """Return at most `MOST_LISTED` of its points with the ends of their intervals, including both ends."""
        unknown = [math.nan] * len(self.x)
        points = list(zip(self.x, self.y, self.low or unknown, self.high or unknown, strict=True))
        step = max(1, math.ceil((len(points) - 1) / (MOST_LISTED - 1)))
        return points if len(points) <= MOST_LISTED else [*points[:-1:step], points[-1]]


@dataclass(frozen=True)
class LinePlot:
    """A plot of at least one line.

    Attributes
    ----------
    title, fact
        What is plotted, and what it shows in words: the caption.
    x_label, y_label
        Labels of the axes, with units.
    has_diagonal
        Whether the line on which both axes are equal is drawn.
    x_names
        Labels of the ticks at 0, 1, …; numbers if empty.
    """

    title: str
    fact: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    has_diagonal: bool = False
    x_names: Sequence[str] = ()
    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT
    left: ClassVar[int] = LEFT
    right: ClassVar[int] = RIGHT
    top: ClassVar[int] = TOP
    bottom: ClassVar[int] = BOTTOM

    @property
    def has_intervals(self) -> bool:
        """Whether any point has an interval."""
        return any(one.low for one in self.series)

    @property
    def x_ends(self) -> tuple[float, float]:
        """Smallest and largest number of the horizontal axis."""
        found = find_axis_ends([x for one in self.series for x in one.x])
        return (-0.5, len(self.x_names) - 0.5) if self.x_names else found

    @property
    def y_ends(self) -> tuple[float, float]:
        """Smallest and largest number of the vertical axis."""
        return find_axis_ends([y for one in self.series for y in (*one.y, *one.low, *one.high)])

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Place and label of each tick of the horizontal axis."""
        if self.x_names:
            step = math.ceil(len(self.x_names) / MOST_TICKS)
            return [(self.place_x(number), self.x_names[number]) for number in range(0, len(self.x_names), step)]
        return [(self.place_x(tick), format_number(tick)) for tick in make_ticks(*self.x_ends)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Place and label of each tick of the vertical axis."""
        return [(self.place_y(tick), format_number(tick)) for tick in make_ticks(*self.y_ends)]

    def place_x(self, value: float) -> float:
        """Return the horizontal place of a number in the drawing."""
        low, high = self.x_ends
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def place_y(self, value: float) -> float:
        """Return the vertical place of a number in the drawing."""
        low, high = self.y_ends
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def draw_path(self, one: Series) -> str:
        """Return the line of a series as the commands of an SVG path."""
        commands, is_drawing = [], False
        for x, y in zip(one.x, one.y, strict=True):
            is_known = math.isfinite(x) and math.isfinite(y)
            if is_known:
                commands.append(f"{'L' if is_drawing else 'M'}{self.place_x(x):g} {self.place_y(y):g}")
            is_drawing = is_known
        return "".join(commands)

    def draw_diagonal(self) -> str:
        """Return the part of the line x = y within the axes, as the commands of an SVG path."""
        low, high = max(self.x_ends[0], self.y_ends[0]), min(self.x_ends[1], self.y_ends[1])
        if not self.has_diagonal or low >= high:
            return ""
        (x, y), (x_end, y_end) = ((self.place_x(end), self.place_y(end)) for end in (low, high))
        return f"M{x:g} {y:g}L{x_end:g} {y_end:g}"

    def place_marks(self, one: Series) -> list[tuple[float, float, float | None, float | None]]:
        """Return the place of each point of a series, and of the ends of its interval if it has one."""
        lows, highs = (one.low or [math.nan] * len(one.x)), (one.high or [math.nan] * len(one.x))
        return [
            (self.place_x(x), self.place_y(y), *((self.place_y(low), self.place_y(high)) if has_ends else (None, None)))
            for x, y, low, high in zip(one.x, one.y, lows, highs, strict=True)
            if math.isfinite(x) and math.isfinite(y)
            for has_ends in [math.isfinite(low) and math.isfinite(high)]
        ]

    def name_x(self, x: float) -> str:
        """Return the name or the number of a place of the horizontal axis."""
        return self.x_names[int(x)] if self.x_names else format_number(x)


def find_axis_ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest finite number, apart from each other; 0 and 1 if there are none.

    >>> find_axis_ends([2.0, float("nan"), 5.0]), find_axis_ends([3.0]), find_axis_ends([])
    ((2.0, 5.0), (1.5, 4.5), (0.0, 1.0))
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    reach = 0.5 if high - low <= 1e-9 * max(1.0, abs(low), abs(high)) else 0.0
    return low - reach * max(1.0, abs(low)), high + reach * max(1.0, abs(high))


def make_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends, at most `MOST_TICKS` and one.

    >>> make_ticks(0.0, 1.0), make_ticks(35.2, 51.0)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [40.0, 45.0, 50.0])
    """
    size = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    step = next(size * factor for factor in STEPS if (high - low) / (size * factor) < MOST_TICKS)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
