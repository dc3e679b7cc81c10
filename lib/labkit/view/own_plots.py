"""Plots of the user's own on a page: any Matplotlib figure, with caption, alternative text, data, in light and dark.

`show_plots` draws what `evaluation.plots` names; `show_plot` is for a figure made in a cell of one's own.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure as EmptyFigure

from labkit.checks import CheckResult, make_check
from labkit.errors import LabkitError, get_first_line
from labkit.model.evaluation.own_checks import offer_predictions
from labkit.model.evaluation.predictions import Predictions
from labkit.params.import_path import choose_arguments, locate_code
from labkit.params.own_calls import find_raising_line, without_exits
from labkit.params.own_plots import OFFERED_TO_PLOTS, find_plot_words, load_function
from labkit.units import format_count
from labkit.view.style import Figure, follow_ground, make_note, render_drawing, save_svg, show, style
from labkit.view.svg import theme_black

PLACE = "evaluation.plots"
PYPLOT = "matplotlib.pyplot"
MOST_BYTES = 2_000_000
"""Largest drawing on a page, which every reader has to load."""
RETURN = "return a Matplotlib figure, or the figure and a sentence on what it shows, and a table of its numbers if any"


def show_plots(
    paths: Sequence[str], predictions: Predictions, rows: pd.DataFrame, *, threshold: float | None = None
) -> list[CheckResult]:
    """Display the plots of the user's own; what cannot be drawn has the reason in its place, and is an issue.

    Parameters
    ----------
    paths
        Import paths: `evaluation.plots` of the params.
    predictions
        Predictions of the model for the holdout.
    rows
        Its clean rows with the target, in the same order.
    threshold
        Probability from which one acts, None if no costs are declared.

    Returns
    -------
    list of CheckResult
        One result, whether all were drawn; empty without plots.
    """
    faults = {
        path: display_plot(path, {**offer_predictions(predictions, rows), "threshold": threshold}) for path in paths
    }
    failed = [fault for fault in faults.values() if fault]
    evidence = "; ".join(failed) or f"{format_count(len(paths), 'plot')} drawn"
    return [make_check("LK510", not failed, evidence, failed="issue")] if paths else []


def display_plot(path: str, offered: dict[str, Any]) -> str:
    """Display one plot, or why it cannot be drawn, and return the reason; empty if it was drawn."""
    title = find_plot_words(path, None).title
    try:
        function = load_function(path, where=PLACE, offered=OFFERED_TO_PLOTS)
        title = find_plot_words(path, function).title
        drawn = draw(path, function, offered)
    except LabkitError as error:
        show(make_note(title, f"Not drawn: {error}."))
        return str(error)
    display(HTML(drawn))
    return ""


def draw(path: str, function: Any, offered: dict[str, Any]) -> str:
    """Call a function and return its plot as HTML; raise LabkitError with file and line if it cannot be drawn."""
    words, lead = find_plot_words(path, function), f"{path}: {locate_code(function)}"
    with style(), close_figures():
        try:
            with without_exits():
                found = function(**choose_arguments(function, offered, where=path))
            figure, fact, table = take_apart(found)
            return render_plot(figure, words.title, fact, alt=words.alt, table=table)
        except LabkitError as error:
            raise type(error)(f"{lead}: {error}") from error
        except Exception as error:  # whatever the user's code raises
            at = find_raising_line(error)
            raise LabkitError(f"{path}: {type(error).__name__}: {get_first_line(error)}, at {at}") from error


def take_apart(found: Any) -> tuple[EmptyFigure, str, pd.DataFrame | None]:
    """Return figure, fact and table of what a function returned; raise LabkitError if it is anything else."""
    parts = found if isinstance(found, tuple) else (found,)
    figure, fact, table = (*parts, *("", None)[len(parts) - 1 :]) if 1 <= len(parts) <= 3 else (None, "", None)
    figure = getattr(figure, "figure", figure)  # axes are drawn with their figure
    is_plot = isinstance(figure, EmptyFigure) and isinstance(fact, str) and isinstance(table, pd.DataFrame | None)
    if not is_plot:
        shown = f"({', '.join(type(part).__name__ for part in parts)})" if len(parts) > 1 else type(found).__name__
        raise LabkitError(f"returns {shown}: {RETURN}")
    if not figure.axes:
        raise LabkitError("returns a figure without axes: draw on figure.subplots()")
    return figure, fact, table


def show_plot(
    figure: EmptyFigure, title: str, fact: str = "", *, alt: str = "", table: pd.DataFrame | None = None
) -> None:
    """Display a figure made in a cell as labkit's plots are displayed, once, even if it was made with pyplot.

    Parameters
    ----------
    title, fact
        Caption: what is drawn, and what it shows.
    alt
        Alternative text; by default title and fact.
    table
        The numbers drawn, which readers can unfold.

    Raises
    ------
    LabkitError
        The drawing is too large for a page.
    """
    display(HTML(render_plot(figure, title, fact, alt=alt, table=table)))
    if PYPLOT in sys.modules:
        sys.modules[PYPLOT].close(figure)


def render_plot(figure: EmptyFigure, title: str, fact: str, *, alt: str, table: pd.DataFrame | None) -> str:
    """Return a figure as HTML; one of labkit's own plots keeps its words where none are given."""
    if isinstance(figure, Figure):
        fact, table, alt = fact or figure.fact, figure.table if table is None else table, alt or str(figure.get_label())
    follow_ground(figure)
    svg = theme_black(save_svg(figure))
    if len(svg) > MOST_BYTES:
        raise LabkitError(
            f"draws {len(svg) / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f} MB: pass rasterized=True to what draws "
            "many points, or draw fewer"
        )
    described = alt or f"Plot: {title}{'' if title.endswith('?') else '.'} {fact}".strip()
    return render_drawing(svg, figure, title=title, fact=fact, alt=described, table=table)


@contextmanager
def close_figures() -> Iterator[None]:
    """Close the figures that are made with pyplot within the context: Jupyter would display them once more."""
    before = set(sys.modules[PYPLOT].get_fignums()) if PYPLOT in sys.modules else set()
    try:
        yield
    finally:
        if PYPLOT in sys.modules:
            for number in set(sys.modules[PYPLOT].get_fignums()) - before:
                sys.modules[PYPLOT].close(number)
