"""The style of all plots, how they are displayed, and the simple bar chart.

The only importer of matplotlib, without pyplot: nothing is global, no figure stays open, and the same data give the
same bytes. Plots of tables are in `labkit.view.data_plots`, plots of models in `labkit.view.model_plots`.
"""

import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from IPython.display import Image, display
from matplotlib.axes import Axes as Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap as LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.dates import date2num as date2num
from matplotlib.figure import Figure as Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter
from PIL import Image as PngImage
from PIL.PngImagePlugin import PngImageFile

from labkit.view.prose import LARGEST_FIXED, format_number, format_share, shorten_name

WIDTH_INCHES = 7.0
WIDTH_PIXELS = 700
COLOURS = 256
SHARPNESS = 2
"""Pixels of the image per pixel on a standard screen."""

# Okabe and Ito's colours, distinguishable with any kind of colour blindness (jfly.uni-koeln.de/color, 2008).
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY)
LARGE = 10_000
LARGEST_DRAWN = 1e100
"""Magnitude above which axes overflow; larger numbers are not drawn."""
MOST_BINS = 60
INK, MUTED, LINE, PALE = "#1c2329", "#57616b", "#b4bdc6", "#e6eaee"
DIVERGING = LinearSegmentedColormap.from_list("labkit", [BLUE, "#8dbbdb", "#ffffff", "#eba67a", ORANGE])
SEQUENTIAL = LinearSegmentedColormap.from_list("labkit", ["#ffffff", "#9cc7e3", BLUE, "#003a5d"])
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 11, "text.color": INK, "svg.hashsalt": "labkit",
    "text.parse_math": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 7,
    "axes.labelsize": 11, "axes.labelcolor": MUTED, "axes.edgecolor": LINE, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": "white",
    "axes.grid": True, "grid.color": PALE, "grid.linewidth": 0.8,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10.5, "ytick.labelsize": 10.5, "xtick.major.size": 0, "ytick.major.size": 0,
    "legend.frameon": False, "legend.fontsize": 10.5, "figure.facecolor": "white", "lines.linewidth": 2,
}  # fmt: skip


def show(figure: Figure, alt: str = "", *, place: str = "") -> None:
    """Display a figure as a PNG with its alternative text; `alt` replaces the figure's own.

    With `place`, the figure replaces what was displayed under that display id.
    """
    size = {"width": WIDTH_PIXELS, "height": round(figure.get_figheight() * 100), "alt": alt or figure.get_label()}
    options: dict[str, Any] = {"display_id": place, "update": True} if place else {}
    image = Image(save_png(figure), width=size["width"], height=size["height"])
    display(image, metadata={"image/png": size}, **options)


def save_png(figure: Figure) -> bytes:
    """Return a figure as PNG in at most 256 colours: the same figure gives the same bytes.

    Plots need no more colours, and a page with a palette is less than half as large.
    """
    stream = BytesIO()
    with style(), warnings.catch_warnings():
        # A name may hold characters missing from the font: a box is drawn, and the alternative text has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # The layout engine tries sizes at which no dates fit; the final size has dates.
        warnings.filterwarnings("ignore", message="AutoDateLocator was unable to pick")
        write_large_numbers(figure)
        figure.savefig(stream, format="png", dpi=100 * SHARPNESS)
    stream.seek(0)
    picture, written = PngImageFile(stream).convert("RGB"), BytesIO()
    palette = picture.quantize(COLOURS, method=PngImage.Quantize.MEDIANCUT, dither=PngImage.Dither.NONE)
    palette.save(written, format="png", optimize=True)
    return written.getvalue()


def write_large_numbers(figure: Figure) -> None:
    """Write large tick labels in full, thousands separated, instead of with an offset such as 1e6."""
    for axes in figure.axes:
        for axis, ends, most in ((axes.xaxis, axes.get_xlim(), 4), (axes.yaxis, axes.get_ylim(), 6)):
            is_large = LARGE <= max(map(abs, ends)) < LARGEST_FIXED and abs(ends[1] - ends[0]) >= LARGE / 10
            if is_large and type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_locator(MaxNLocator(most))
                axis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))


@contextmanager
def style() -> Iterator[None]:
    """Apply labkit's plot style within the context only, whatever the user's settings."""
    defaults: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context({**defaults, **STYLE}):
        yield


def make_figure(
    title: str, fact: str, *, form: str, height: float, grid: tuple[int, int] = (1, 1), **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure with its title, main fact and alternative text, and its axes as a flat array.

    Parameters
    ----------
    fact
        The sentence that the plot supports.
    form
        Kind of plot; the first words of the alternative text.
    height
        Inches below the header.
    options
        Passed to `Figure.subplots`.
    """
    head = textwrap.wrap(title, 58)
    lines = textwrap.wrap(fact, 80)
    header = 0.26 * len(head) + 0.21 * len(lines) + 0.16
    total = height + header
    figure = Figure(figsize=(WIDTH_INCHES, total), label=f"{form}: {title}{'' if title.endswith('?') else '.'} {fact}")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", rect=(0.008, 0, 0.984, height / total), h_pad=0.06, w_pad=0.06)
    top = 1 - 0.06 / total
    figure.text(0.012, top, "\n".join(head), size=14, weight="bold", va="top", linespacing=1.25)
    below = top - 0.26 * len(head) / total
    figure.text(0.012, below, "\n".join(lines), size=11, color=MUTED, va="top", linespacing=1.3)
    axes = figure.subplots(*grid, squeeze=False, **options).ravel()
    return figure, axes


def make_note(title: str, fact: str) -> Figure:
    """Return a figure that states why there is no plot."""
    with style():
        figure, (axes,) = make_figure(title, fact, form="Note", height=0.05)
        axes.remove()
        return figure


def keep_drawable(values: Any) -> np.ndarray:
    """Return numbers with NaN in place of those that cannot be drawn: missing, infinite and extremely large ones.

    >>> keep_drawable([1, None, float("inf"), -1e300])
    array([ 1., nan, nan, nan])
    """
    numbers = np.array(values, dtype="float64")
    with np.errstate(invalid="ignore"):
        numbers[~(np.abs(numbers) < LARGEST_DRAWN)] = np.nan
    return numbers


def find_ends(*values: Any) -> tuple[float, float]:
    """Return the smallest and the largest number that can be drawn; 0 and 1 if there are none.

    >>> find_ends([2, float("nan")], [5]), find_ends([])
    ((2.0, 5.0), (0.0, 1.0))
    """
    numbers = np.concatenate([keep_drawable(part).ravel() for part in values])
    known = numbers[~np.isnan(numbers)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def make_bins(values: np.ndarray, most: int = MOST_BINS) -> np.ndarray:
    """Return the edges of a histogram's bins, ascending, at least two.

    Their number is that of numpy's `auto`, the larger of Sturges' and of Freedman and Diaconis', but limited: a
    single distant outlier would require billions of bins.

    Parameters
    ----------
    values
        Numbers that can be drawn, shape (n_values,), at least one.
    most
        Largest number of bins.
    """
    quarter, three_quarters = np.quantile(values, [0.25, 0.75])
    width, (low, high) = 2 * (three_quarters - quarter) / len(values) ** (1 / 3), find_ends(values)
    wanted = max(np.log2(len(values)) + 1, (high - low) / width if width > 0 else 0)
    return spread_edges(low, high, int(np.ceil(min(wanted, most))))


def spread_edges(low: float, high: float, n_bins: int) -> np.ndarray:
    """Return the edges of equally wide bins, or of a single bin if the ends are too close to divide.

    >>> spread_edges(0.0, 4.0, 2), spread_edges(5.0, 5.0, 24)
    (array([0., 2., 4.]), array([2.5, 7.5]))
    """
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-9 * largest, 1e-300):
        reach = max(largest, 1.0) / 2
        return np.array([low - reach, low + reach])
    return np.linspace(low, high, n_bins + 1)


def plot_bars(
    values: Mapping[str, float],
    *,
    title: str,
    fact: str,
    unit: str,
    as_share: bool = False,
    highlight: Sequence[str] = (),
    muted: Sequence[str] = (),
) -> Figure:
    """Draw a horizontal bar chart of named values, each with its number; the `highlight` ones are orange.

    A number that cannot be drawn has no bar. The `muted` ones are grey and end where the longest other bar ends.
    """
    if not values:
        return make_note(title, fact)
    with style():
        figure, (axes,) = make_figure(title, fact, form="Bar chart", height=0.75 + 0.3 * len(values))
        names, numbers = [shorten_name(name) for name in values], keep_drawable(list(values.values()))
        lengths = np.nan_to_num(numbers)
        is_muted = np.array([name in muted for name in values])
        if is_muted.any() and not is_muted.all():
            lengths = np.where(is_muted, np.minimum(lengths, lengths[~is_muted].max()), lengths)
        colors = [ORANGE if name in highlight else LINE if name in muted else BLUE for name in values]
        axes.barh(range(len(names)), lengths, color=colors, height=0.72)
        for row, (length, number) in enumerate(zip(lengths, values.values(), strict=True)):
            label = format_share(number) if as_share else format_number(number)
            place = (max(length, 0.0), row)
            axes.annotate(label, place, (5, 0), textcoords="offset points", va="center", color=INK, size=10.5)
        finish_bars(axes, names, unit)
        axes.set_xlim(1.14 * min(lengths.min(), 0.0), 1.14 * max(lengths.max(), 1e-12))
        set_ticks(axes, 6, as_share=as_share)
        return figure


def finish_bars(axes: Axes, names: Sequence[str], unit: str) -> None:
    """Label the rows from the top down and the x axis with the unit."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(unit)


def set_ticks(axes: Axes, most: int, *, as_share: bool = False, end: float = float("inf")) -> None:
    """Set at most `most` ticks on the x axis, in percent for shares, without labels beyond `end`."""

    def name(x: float, _: object) -> str:
        if x > end + 1e-9:
            return ""
        return f"{format_number(100 * x)} %" if as_share else format_number(x)

    axes.xaxis.set_major_locator(MaxNLocator(most))
    axes.xaxis.set_major_formatter(FuncFormatter(name))


def set_time_ticks(axes: Axes) -> None:
    """Set dates as ticks of the x axis."""
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=4))
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))


def add_legend(figure: Figure, colors: Mapping[str, str]) -> None:
    """Add a legend of the colours below the axes."""
    handles = [Patch(color=color) for color in colors.values()]
    names = [shorten_name(name) for name in colors]
    figure.legend(handles, names, loc="outside lower left", ncols=min(4, len(names)), handlelength=1.2)
