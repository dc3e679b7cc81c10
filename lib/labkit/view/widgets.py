"""Widgets for JupyterLab, each with a static version for batch runs, whose pages hold no script.

The plots are those of `labkit.view.data_plots`.
"""

import html

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import HTML, display

from labkit import paths
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Target
from labkit.units import format_clock
from labkit.view.data_plots import plot_columns, rank_columns
from labkit.view.prose import format_number, format_share, shorten_name
from labkit.view.style import WIDTH_PIXELS, render_figure, show

STATIC_COLUMNS = 2
"""Columns shown by the static version."""
PANEL_INCHES = 2.9


def explore_columns(
    frame: pd.DataFrame,
    profile: pd.DataFrame,
    target: Target,
    *,
    every: pd.DataFrame | None = None,
    subject: Subject = GENERIC,
) -> ipywidgets.VBox | None:
    """Return the column explorer; in a batch run show its first columns instead and return None.

    Parameters
    ----------
    frame
        Shape (n_rows, n_columns), the target among the columns.
    profile
        As `labkit.data.quality.profile.profile_table` returns it.
    every
        The rows that the profile describes, if `frame` lacks those without a target: the numbers are of these rows.
    """
    every = frame if every is None else every
    if paths.get_run_dir() is None:
        return make_explorer(frame, profile, target, subject, every=every)
    for name in rank_columns(profile, target)[:STATIC_COLUMNS]:
        show(plot_columns(frame, [name], target, panel_inches=PANEL_INCHES, subject=subject))
        display(HTML(make_table(every, profile, name, subject)))
    return None


def make_explorer(
    frame: pd.DataFrame, profile: pd.DataFrame, target: Target, subject: Subject = GENERIC, *, every: pd.DataFrame
) -> ipywidgets.VBox:
    """Return a list of all columns, buttons to step through it, and the chosen column's plot and statistics."""
    scores = profile.set_index("column")["score"]
    names = rank_columns(profile, target)
    options = [(f"{shorten_name(name, 40)} · {format_share(scores[name])}", name) for name in names]
    chosen = ipywidgets.Dropdown(
        options=options, description="Column", layout={"width": "auto", "flex": "1 1 12rem", "max_width": "28rem"}
    )
    view = ipywidgets.HTML()

    def draw(change: object = None) -> None:
        view.value = make_view(frame, profile, chosen.value, target, subject, every=every)

    def make_button(icon: str, meaning: str, step: int) -> ipywidgets.Button:
        button = ipywidgets.Button(icon=icon, tooltip=meaning, layout={"width": "3rem"})
        button.on_click(lambda _: setattr(chosen, "index", (chosen.index + step) % len(names)))
        return button

    chosen.observe(draw, names="value")
    draw()
    buttons = [make_button("arrow-left", "Previous column", -1), make_button("arrow-right", "Next column", 1)]
    row = ipywidgets.HBox([chosen, *buttons], layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([row, view], layout={"max_width": f"{WIDTH_PIXELS + 20}px"})


def make_view(
    frame: pd.DataFrame,
    profile: pd.DataFrame,
    name: str,
    target: Target,
    subject: Subject,
    *,
    every: pd.DataFrame | None = None,
) -> str:
    """Return one column's plot and statistics as HTML that fits any width."""
    figure = plot_columns(frame, [name], target, panel_inches=PANEL_INCHES, subject=subject)
    numbers = make_table(frame if every is None else every, profile, name, subject)
    return f'<div aria-live="polite">{render_figure(figure)}{numbers}</div>'


def make_table(frame: pd.DataFrame, profile: pd.DataFrame, name: str, subject: Subject = GENERIC) -> str:
    """Return one column's statistics as an HTML table."""
    facts = describe_values(frame[name], profile[profile["column"] == name].iloc[0], subject)
    look = 'style="padding: 0 .7em; text-align: right"'
    head = "".join(f"<th {look}>{html.escape(key)}</th>" for key in facts)
    cells = "".join(f"<td {look}>{html.escape(value)}</td>" for value in facts.values())
    caption = f"<caption>{html.escape(name)} in numbers</caption>"
    return f'<table class="dataframe">{caption}<thead><tr>{head}</tr></thead><tbody><tr>{cells}</tr></tbody></table>'


def describe_values(values: pd.Series, line: pd.Series, subject: Subject = GENERIC) -> dict[str, str]:
    """Return a column's statistics as strings: quartiles of numbers, ends of times, else the most common value."""
    facts = {"kind": str(line["kind"]), "missing": format_share(line["missing_share"])}
    facts["distinct"] = f"{line['distinct']:,}"
    known = values.dropna()
    if line["kind"] == "number" and len(known):
        places = np.quantile(known.to_numpy(dtype=float), [0, 0.25, 0.5, 0.75, 1])
        keys = ("smallest", "lower quarter", "median", "upper quarter", "largest")
        written = format_clock if subject.is_clock(str(line["column"])) else format_number
        facts |= dict(zip(keys, map(written, places), strict=True))
    else:
        named = ("smallest", "largest") if line["kind"] == "time" else ("most_common",)
        facts |= {key.replace("_", " "): shorten_name(line[key], 30) for key in named}
    return facts | {"explains": format_share(line["score"], 1)}
