"""The style of all plots, how they are displayed, and the simple bar chart.

Matplotlib without pyplot: nothing is global, no figure stays open, and the same data give the
same bytes. Plots of tables are in `labkit.view.data_plots`, plots of models in `labkit.view.model_plots`.
"""

import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from markupsafe import Markup
from matplotlib.axes import Axes as Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap as LinearSegmentedColormap
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.dates import date2num as date2num
from matplotlib.figure import Figure as EmptyFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

from labkit.units import LEAST_DIGITS, find_magnitude
from labkit.view.prose import (
    LARGEST_FIXED,
    MOST_FOLDED,
    count,
    format_column,
    format_number,
    format_share,
    render_table,
    shorten_name,
)
from labkit.view.svg import GROUND as GROUND
from labkit.view.svg import INK as INK
from labkit.view.svg import LINE as LINE
from labkit.view.svg import MUTED as MUTED
from labkit.view.svg import PALE as PALE
from labkit.view.svg import make_data_url, theme_svg

WIDTH_INCHES = 7.0
WIDTH_PIXELS = 700
DOTS_PER_INCH = 200
"""Sharpness of clouds of points, which are drawn as pixels."""
MOST_MARKS = 300
"""Points from which on a cloud is drawn as pixels."""

# Okabe and Ito's colours, distinguishable with any kind of colour blindness (jfly.uni-koeln.de/color, 2008), yellow
# and sky darker: all stand out from a light and a dark ground by 3:1, as WCAG 2.2 (1.4.11) asks of marks.
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07A00", "#3D93C9"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY)
GREY, CLOUD = "#7A8590", "#2B84C4"
"""Colours of what stands back and of clouds of points."""
BLACK, WHITE = "#14181c", "white"
"""Colours of text on a coloured ground, the same in the dark."""
LONGEST_LINE = 40
"""Characters of a line of an axis label."""
LARGE = 10_000
LARGEST_DRAWN = 1e100
"""Magnitude above which axes overflow; larger numbers are not drawn."""
MOST_WIDENINGS, LEAST_WIDENING = 4, 0.005
"""How often an axis is widened at most, and by which share of its length at least."""
DIVERGING = LinearSegmentedColormap.from_list("labkit", [BLUE, "#8dbbdb", "#ffffff", "#eba67a", ORANGE])
SEQUENTIAL = LinearSegmentedColormap.from_list("labkit", ["#ffffff", "#9cc7e3", BLUE, "#003a5d"])
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 11, "text.color": INK, "svg.hashsalt": "labkit",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 7,
    "axes.labelsize": 11, "axes.labelcolor": MUTED, "axes.edgecolor": LINE, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": "none",
    "axes.grid": True, "grid.color": PALE, "grid.linewidth": 0.8,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10.5, "ytick.labelsize": 10.5, "xtick.major.size": 0, "ytick.major.size": 0,
    "legend.frameon": False, "legend.fontsize": 10.5, "figure.facecolor": "none", "lines.linewidth": 2,
}  # fmt: skip


class Figure(EmptyFigure):
    """A figure with what is written beside it: title, main fact, and the numbers drawn where they are a small table."""

    title: str = ""
    fact: str = ""
    table: pd.DataFrame | None = None


def show(figure: Figure, alt: str = "", *, place: str = "") -> None:
    """Display a figure with its title, main fact, alternative text and numbers; `alt` replaces the figure's own.

    With `place`, the figure replaces what was displayed under that display id.
    """
    options: dict[str, Any] = {"display_id": place, "update": True} if place else {}
    display(HTML(render_figure(figure, alt)), **options)


def render_figure(figure: Figure, alt: str = "") -> str:
    """Return a figure as HTML, the same for JupyterLab and the page: caption, image, and its numbers folded.

    A figure without axes is only its caption.
    """
    if not figure.axes:
        return Markup("<p>{}</p>").format(render_caption(figure.title, figure.fact))
    described = alt or str(figure.get_label())
    return render_drawing(
        save_svg(figure), figure, title=figure.title, fact=figure.fact, alt=described, table=figure.table
    )


def render_caption(title: str, fact: str) -> Markup:
    """Return title and main fact as HTML."""
    return Markup("<strong>{}</strong><br>{}").format(title, fact)


def render_drawing(
    svg: str, figure: EmptyFigure, *, title: str, fact: str, alt: str, table: pd.DataFrame | None
) -> str:
    """Return a drawing as HTML, in the size of its figure but no wider than the page, with what is beside it."""
    width, height = figure.get_size_inches()
    scale = min(100.0, WIDTH_PIXELS / width)
    image = Markup('<img alt="{}" width="{}" height="{}" src="{}">').format(
        alt, round(scale * width), round(scale * height), make_data_url(svg)
    )
    box = Markup('<div class="scroll" tabindex="0" role="group" aria-label="Plot">{}</div>').format(image)
    data = Markup("")
    if table is not None and 0 < len(table) <= MOST_FOLDED:
        drawn = Markup(render_table(table))
        data = Markup("<details><summary>Data ({})</summary>{}</details>").format(count(len(table), "line"), drawn)
    caption = render_caption(title, fact)
    return Markup('<figure style="margin: 0"><figcaption>{}</figcaption>{}{}</figure>').format(caption, box, data)


def follow_ground(figure: EmptyFigure) -> None:
    """Paint the white areas of a figure in the colour of the ground, which follows the reader's settings."""
    for patch in figure.findobj(Patch):
        *color, alpha = to_rgba(patch.get_facecolor())
        if color == [1.0, 1.0, 1.0]:
            patch.set_facecolor((*to_rgb(GROUND), alpha))


def save_svg(figure: EmptyFigure) -> str:
    """Return a figure as SVG in the colours of the reader's settings: the same figure gives the same string."""
    stream = StringIO()
    with style(), warnings.catch_warnings():
        # A name may hold characters missing from the font that the layout is computed with.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # The layout engine tries sizes at which no dates fit; the final size has dates.
        warnings.filterwarnings("ignore", message="AutoDateLocator was unable to pick")
        write_large_numbers(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", dpi=DOTS_PER_INCH, metadata=nothing)
    return theme_svg(stream.getvalue())


def write_large_numbers(figure: EmptyFigure) -> None:
    """Write large tick labels in full, thousands separated, instead of with an offset such as 1e6."""
    for axes in figure.axes:
        for axis, ends, most in ((axes.xaxis, axes.get_xlim(), 4), (axes.yaxis, axes.get_ylim(), 6)):
            is_large = LARGE <= max(map(abs, ends)) < LARGEST_FIXED and abs(ends[1] - ends[0]) >= LARGE / 10
            if is_large and type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_locator(MaxNLocator(1 if axis is axes.xaxis and max(ends) >= 1e8 else most))
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

    Title and fact are written beside the drawing, as text of the page.

    Parameters
    ----------
    fact
        The sentence that the plot supports.
    form
        Kind of plot; the first words of the alternative text.
    height
        Inches of the drawing.
    options
        Passed to `Figure.subplots`.
    """
    fact = fact.replace("`", "")  # names come as Markdown code, captions are plain
    label = f"{form}: {title}{'' if title.endswith('?') else '.'} {fact}"
    figure = Figure(figsize=(WIDTH_INCHES, height), label=label)
    figure.title, figure.fact = title, fact
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", rect=(0.008, 0, 0.984, 1), h_pad=0.06, w_pad=0.06)
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


def plot_bars(
    values: Mapping[str, float],
    *,
    title: str,
    fact: str,
    unit: str,
    as_share: bool = False,
    highlight: Sequence[str] = (),
    muted: Sequence[str] = (),
    limits: Sequence[float] = (),
) -> Figure:
    """Draw a horizontal bar chart of named values, each with its number; the `highlight` ones are orange.

    A number that cannot be drawn has no bar. The `muted` ones are grey and end where the longest other bar ends.
    Dashed lines are drawn at the `limits`, which are always inside.
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
        colors = [ORANGE if name in highlight else GREY if name in muted else BLUE for name in values]
        for limit in limits:
            axes.axvline(limit, color=MUTED, linestyle="--", linewidth=1.2)
        axes.barh(range(len(names)), lengths, color=colors, height=0.72)
        labels = [format_share(number) for number in values.values()] if as_share else format_column(values.values())
        for row, (length, label) in enumerate(zip(lengths, labels, strict=True)):
            label_point(axes, label, (max(length, 0.0), row), ha="left", va="center", offset=(5, 0))
        finish_bars(axes, names, unit)
        low, high = min(lengths.min(), 0.0), max(lengths.max(), *limits, 0.01 if as_share else 1e-12)
        axes.set_xlim(1.14 * low, 1.14 * high)
        set_ticks(axes, 6, as_share=as_share)
        figure.table = pd.DataFrame({"name": list(map(str, values)), unit: labels})
        return figure


def label_point(
    axes: Axes,
    label: str,
    place: tuple[float, float],
    *,
    ha: str = "center",
    va: str = "bottom",
    offset: tuple[float, float] = (0, 7),
    color: str = INK,
) -> None:
    """Write a label beside a point, offset in points, on the ground's colour so that no line strikes it through."""
    ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 1}
    axes.annotate(
        label, place, offset, textcoords="offset points", ha=ha, va=va, color=color, size=10.5, bbox=ground, zorder=3
    )


def make_room(figure: Figure, axes: Axes) -> None:
    """Widen the horizontal axis until the labels of its points lie within it."""
    for _ in range(MOST_WIDENINGS):
        figure.draw_without_rendering()
        frame, boxes = axes.get_window_extent(), [text.get_window_extent() for text in axes.texts]
        before = max(0.0, *(frame.x0 - box.x0 for box in boxes)) / frame.width
        after = max(0.0, *(box.x1 - frame.x1 for box in boxes)) / frame.width
        if before + after < LEAST_WIDENING:
            return
        low, high = axes.get_xlim()
        axes.set_xlim(low - before * (high - low), high + after * (high - low))


def plot_points(axes: Axes, x: np.ndarray, y: np.ndarray, *, size: float) -> None:
    """Draw a cloud of blue points; a large one as pixels, which take less room than marks."""
    is_large = len(x) > MOST_MARKS
    axes.plot(x, y, "o", color=CLOUD, alpha=0.85, markersize=size, markeredgewidth=0, rasterized=is_large)


def choose_ink(ground: str) -> str:
    """Return the colour of text that stands out from a coloured ground: by 4.5:1 from each of the palette.

    >>> choose_ink(BLUE), choose_ink(ORANGE)
    ('white', '#14181c')
    """
    return WHITE if ground == BLUE else BLACK


def finish_bars(axes: Axes, names: Sequence[str], unit: str) -> None:
    """Label the rows from the top down and the x axis with the unit, in lines short enough beside long names."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(textwrap.fill(unit, LONGEST_LINE))


def set_ticks(axes: Axes, most: int, *, as_share: bool = False, end: float = float("inf")) -> None:
    """Set at most `most` ticks on the x axis, in percent for shares, without labels beyond `end`."""

    def name(x: float, _: object) -> str:
        if x > end + 1e-9:
            return ""
        low, high = axes.get_xlim()
        # Enough digits for neighbouring ticks to differ.
        digits = find_magnitude(max(abs(low), abs(high))) - find_magnitude((high - low) / most) + 2
        return f"{format_number(100 * x)} %" if as_share else format_number(x, max(LEAST_DIGITS, digits))

    axes.xaxis.set_major_locator(MaxNLocator(most))
    axes.xaxis.set_major_formatter(FuncFormatter(name))


def set_time_ticks(axes: Axes) -> None:
    """Set dates as ticks of the x axis."""
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=4))
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))


def add_legend(figure: Figure, colors: Mapping[str, str], *, marks: Mapping[str, str] | None = None) -> None:
    """Add a legend of the colours below the axes: areas, or the `marks` by name, `-` for a line, `o` for points."""
    handles = [
        make_handle(color, (marks or {}).get(name, "" if marks is None else "-")) for name, color in colors.items()
    ]
    names = [shorten_name(name) for name in colors]
    figure.legend(handles, names, loc="outside lower left", ncols=min(4, len(names)), handlelength=1.4)


def make_handle(color: str, mark: str) -> Patch | Line2D:
    """Return the sample of a legend: an area, a line or a point."""
    if not mark:
        return Patch(color=color)
    if mark == "-":
        return Line2D([], [], color=color)
    return Line2D([], [], color=color, marker=mark, linestyle="none", markersize=6)
