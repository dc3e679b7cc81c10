"""Plots of the user's own: plain functions that return a Matplotlib figure, named in `evaluation.plots`.

A function takes by name what it needs of `rows`, of the arrays that metrics of the user's own take (see
`labkit.params.own_metrics`), and of `threshold`. What it returns is drawn by `labkit.view.own_plots`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from labkit.params.import_path import choose_arguments, resolve_callable
from labkit.params.named_columns import ROWS
from labkit.params.own_metrics import OFFERED

OFFERED_TO_CHECKS = (ROWS, *OFFERED)
OFFERED_TO_PLOTS = (*OFFERED_TO_CHECKS, "threshold")

PlotFunction = TypeVar("PlotFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class PlotWords:
    """What is written beside a plot.

    Attributes
    ----------
    title
        Its caption.
    alt
        Alternative text, for readers who do not see the drawing; may be empty.
    """

    title: str
    alt: str = ""


def plot(title: str, *, alt: str = "") -> Callable[[PlotFunction], PlotFunction]:
    """Declare the title and the alternative text of a plot; the function remains as it is.

    Parameters
    ----------
    title, alt
        See `PlotWords`.

    Examples
    --------
    >>> @plot("Profit by threshold")
    ... def profit_curve(y_true, y_proba): ...
    >>> find_plot_words("churn.plots:profit_curve", profit_curve).title
    'Profit by threshold'
    """

    def declare(function: PlotFunction) -> PlotFunction:
        function.labkit_plot = PlotWords(title, alt)  # type: ignore[attr-defined]
        return function

    return declare


def find_plot_words(path: str, function: Any) -> PlotWords:
    """Return what a plot declares; without a declaration its title is its name in words.

    >>> find_plot_words("churn.plots:profit_curve", None)
    PlotWords(title='Profit curve', alt='')
    """
    title = path.rpartition(":")[2].replace("_", " ").strip().capitalize()
    return getattr(function, "labkit_plot", None) or PlotWords(title)


def load_function(path: str, *, where: str, offered: tuple[str, ...]) -> Callable[..., Any]:
    """Import a plot or a check and verify that it needs only arguments that it is offered.

    Parameters
    ----------
    where
        Place in the params, for messages.
    offered
        Names of the arguments.

    Raises
    ------
    ParamsError
        It cannot be imported, is not a function, or needs another argument.
    """
    function = resolve_callable(path, where=where)
    choose_arguments(function, dict.fromkeys(offered), where=f"{where}: {path}")
    return function
