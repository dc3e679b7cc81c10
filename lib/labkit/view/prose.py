"""Numbers and lists in readable form, and tables and sentences shown in a notebook.

The sentences themselves are in the notebooks, beside the code that computes their numbers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from labkit.names import escape as escape
from labkit.params.metric_meanings import describe_metric as describe_metric
from labkit.units import LARGEST_FIXED as LARGEST_FIXED
from labkit.units import format_column as format_column
from labkit.units import format_confidence as format_confidence
from labkit.units import format_count
from labkit.units import format_deviation as format_deviation
from labkit.units import format_interval as format_interval
from labkit.units import format_number as format_number
from labkit.units import format_share as format_share
from labkit.units import format_size as format_size

LONGEST_NAME = 26
MOST_LINES, MOST_FOLDED = 10, 500
"""Lines of a table that are shown, and lines up to which the others can be unfolded."""


def format_seconds(seconds: float) -> str:
    """Return a short time in the unit that fits.

    >>> [format_seconds(seconds) for seconds in (0.0000321, 0.0241, 3.2)]
    ['0.032 ms', '24 ms', '3.2 s']
    """
    return f"{format_number(seconds, 2)} s" if seconds >= 1 else f"{format_number(1000 * seconds, 2)} ms"


def format_limit(value: float) -> str:
    """Return a limit that values must keep, not rounded as a measured number is; "–" if there is none.

    >>> [format_limit(value) for value in (9949.0, 7.0, 2.4375, float("nan"))]
    ['9,949', '7', '2.4375', '–']
    """
    return format_number(value, 10)


def shorten_name(name: Any, longest: int = LONGEST_NAME) -> str:
    """Return a name, shortened in its middle if it is too long for an axis.

    >>> shorten_name("a_column_with_quite_a_long_name_indeed", longest=15)
    'a_colum…_indeed'
    """
    full = str(name)
    if len(full) <= longest:
        return full
    head = (longest - 1 + 1) // 2
    return f"{full[:head]}…{full[len(full) - (longest - 1 - head) :]}"


def join_names(names: Iterable[Any], most: int = 5) -> str:
    """Return names as a phrase: the first `most` of them, then how many more.

    >>> join_names(["a", "b", "c"]), join_names(["a", "b", "c", "d"], most=2), join_names([])
    ('a, b and c', 'a, b and 2 more', 'none')
    """
    items = [str(name) for name in names]
    if not items:
        return "none"
    if len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun in the right form.

    >>> count(1, "row"), count(2_000, "row"), count(0, "class", "classes")
    ('1 row', '2,000 rows', 'no classes')
    """
    return format_count(number, noun, plural) if number else f"no {plural or f'{noun}s'}"


def show_table(
    frame: pd.DataFrame, *, formats: Mapping[str, Callable[[Any], str]] | None = None, empty: str = ""
) -> None:
    """Show a table without its index: its first ten lines, the others folded, or the sentence `empty` without lines.

    Parameters
    ----------
    formats
        Formatter by column; other numbers have the decimals of their column, see `format_column`.
    """
    if frame.empty:
        report(empty)
        return
    written = format_numbers(frame.head(MOST_FOLDED), formats)
    display(HTML(render_table(written.head(MOST_LINES), formats)))
    rest = written.iloc[MOST_LINES:]
    if len(rest):
        head = count(len(rest), "more line")
        display(HTML(f"<details><summary>{head}</summary>{render_table(rest, formats)}</details>"))
    if len(frame) > MOST_FOLDED:
        report(f"… and {count(len(frame) - MOST_FOLDED, 'line')} that are not shown.")


def render_table(frame: pd.DataFrame, formats: Mapping[str, Callable[[Any], str]] | None = None) -> str:
    """Return a table without its index as HTML; numbers without a format have the decimals of their column."""
    shown: str = format_numbers(frame, formats).to_html(
        index=False, border=0, na_rep="–", formatters=dict(formats or {})
    )
    return shown


def format_numbers(frame: pd.DataFrame, formats: Mapping[str, Callable[[Any], str]] | None = None) -> pd.DataFrame:
    """Return a table with the numbers of each column that has no format as strings, as `format_column` writes them."""
    written = frame.copy()
    for place, name in enumerate(frame):
        column = frame.iloc[:, place]
        if name not in (formats or {}) and is_numeric_dtype(column) and not is_bool_dtype(column):
            written.isetitem(place, format_column(column.to_numpy("float64", na_value=np.nan)))
    return written


def report(*sentences: str) -> None:
    """Show sentences as Markdown, one paragraph each, without empty ones; list items stay in one list.

    Nothing is shown if all are empty.
    """
    kept = [sentence for sentence in sentences if sentence]
    if not kept:
        return
    pieces = [
        ("" if index == 0 else "\n" if is_item(kept[index - 1]) and is_item(sentence) else "\n\n") + sentence
        for index, sentence in enumerate(kept)
    ]
    display(Markdown("".join(pieces)))


def demote_headings(markdown: str, levels: int = 2) -> str:
    """Return Markdown with its headings `levels` lower, to be shown inside another document.

    >>> demote_headings("# Title")
    '### Title'
    """
    return re.sub(r"(?m)^(#+ )", "#" * levels + r"\1", markdown)


def is_item(line: str) -> bool:
    """Return whether a line is an item of a Markdown list."""
    return line.lstrip().startswith(("- ", "* ", "1. "))
