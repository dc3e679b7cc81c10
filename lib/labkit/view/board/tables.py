"""The board's tables as HTML, for the widgets and for the static version alike."""

from collections.abc import Iterable, Sequence
from html import escape

from labkit.run.records.run_history import list_runs, show_age
from labkit.stages.run_comparison import RunComparison
from labkit.stages.status import ALWAYS, FRESH, NEVER, STALE
from labkit.units import format_duration
from labkit.view.board.state import RUNNING, BoardStage, BoardState

MOST_RUNS = 10
COLOURS = {FRESH: "#1b7f3b", ALWAYS: "#1b7f3b", STALE: "#8a5a00", NEVER: "#5f6368", RUNNING: "#0b57d0"}
"""Colour of each state; all others are of runs that did not end well."""
FAILED_COLOUR = "#b3261e"
UNBROKEN = 'style="white-space: nowrap"'
LEFT = 'style="text-align: left; vertical-align: top; padding: .2em .8em"'


def make_pipeline_graph(state: BoardState) -> str:
    """Return the pipeline as boxes from left to right, each stage right of all that it reads from."""
    boxes = (
        '<div style="display: flex; flex-direction: column; gap: .4em">'
        + "".join(make_box(stage) for stage in level)
        + "</div>"
        for level in state.list_levels()
    )
    arrow = '<div aria-hidden="true" style="align-self: center">→</div>'
    return (
        '<div role="group" aria-label="Pipeline" style="display: flex; flex-wrap: wrap; gap: .5em">'
        + arrow.join(boxes)
        + "</div>"
    )


def make_box(stage: BoardStage) -> str:
    """Return one stage of the graph."""
    colour = COLOURS.get(stage.state, FAILED_COLOUR)
    return (
        f'<div style="border: 2px solid {colour}; border-radius: 4px; padding: .2em .6em; min-width: 6em">'
        f"<strong>{escape(stage.stage)}</strong><br>{make_badge(stage)}<br>"
        f"<small>{format_duration(stage.seconds)}</small></div>"
    )


def make_badge(stage: BoardStage) -> str:
    """Return the state of a stage in its colour."""
    colour = COLOURS.get(stage.state, FAILED_COLOUR)
    return f'<span style="white-space: nowrap; color: {colour}">{escape(stage.state)}</span>'


def make_stage_table(state: BoardState) -> str:
    """Return the stages with what they read from, state, times, reasons, latest result and page."""
    rows = []
    for one in state.stages:
        why = [escape(reason) for reason in one.reasons if one.state != NEVER]
        why += [f"latest: {escape(one.headline)}" if why else escape(one.headline)] if one.headline else []
        page = f'<a href="../{escape(one.page)}" target="_blank">open page</a>' if one.page else ""
        names = escape(one.stage), escape(", ".join(one.after))
        short = [f"<span {UNBROKEN}>{cell}</span>" for cell in (format_duration(one.seconds), escape(one.ended), page)]
        rows.append((*names, make_badge(one), *short[:2], "<br>".join(why), short[2]))
    return make_html_table(("stage", "reads from", "state", "took", "last ran", "why, and latest result", "page"), rows)


def make_runs_table(experiment: str, headlines: dict[str, str] | None = None) -> str:
    """Return the latest runs of an experiment, with their headline metrics if they are given."""
    rows, n_runs = list_runs(experiment, most=MOST_RUNS)
    if not rows:
        return f"<p>No run of {escape(experiment)} yet.</p>"
    cells = []
    for one in rows:
        taken = (format_duration(one.seconds), show_age(one.at))
        cells.append(tuple(map(escape, (one.run, one.end, *taken, (headlines or {}).get(one.run, "")))))
    more = f"<p>… and {n_runs - len(rows)} more: labkit runs {escape(experiment)} -n {n_runs}</p>"
    return make_html_table(("run", "ended", "took", "started", "on the holdout"), cells) + more * (n_runs > len(rows))


def make_comparison(found: RunComparison) -> str:
    """Return how two runs differ, as `labkit compare` shows it."""
    pairs = [(escape(heading), escape(words).replace("\n", "<br>")) for heading, words in found.describe()]
    tables = [
        f"<h4>{escape(title)}</h4>{make_html_table(headings, [tuple(map(escape, row)) for row in rows])}"
        for title, headings, rows in found.make_tables()
    ]
    return make_html_table(("", ""), pairs) + "".join(tables)


def make_html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f'<th scope="col" {LEFT}>{escape(heading)}</th>' for heading in headings)
    body = "".join("<tr>" + "".join(f"<td {LEFT}>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def make_message(message: str, *, is_error: bool = False) -> str:
    """Return a message, which screen readers announce."""
    colour = f' style="color: {FAILED_COLOUR}"' if is_error else ""
    return f'<div role="status" aria-live="polite"{colour}><pre>{escape(message)}</pre></div>' if message else ""


def make_log(lines: Sequence[str]) -> str:
    """Return the end of a log in a box of its own."""
    if not lines:
        return ""
    look = "max-height: 20em; overflow: auto; border: 1px solid #c4c7c5; padding: .5em; line-height: 1.3"
    # Reversed, so that the browser keeps the end in view.
    return (
        f'<div style="display: flex; flex-direction: column-reverse; {look}" tabindex="0" role="log">'
        f"<pre>{escape(chr(10).join(lines))}</pre></div>"
    )
