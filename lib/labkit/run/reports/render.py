"""Render the HTML reports: executed notebooks, and Markdown pages in the same style.

Pages contain no scripts and load nothing; all output of a notebook passes an allow-list. Read next:
`labkit.run.reports.sanitize`, that list, and `templates/labkit/`, the templates.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import nbformat
from markupsafe import Markup, escape
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from labkit.errors import StageError
from labkit.run.cell_states import get_state, remove_banners
from labkit.run.reports.checks_on_page import enclose, show_muted
from labkit.run.reports.conditions import move_to_appendix, select_cells
from labkit.run.reports.sanitize import CLEANER, Outline, check_base64, render_colours
from labkit.storage.atomic import write_text
from labkit.units import format_count, format_duration, format_number

Status = Literal["finished", "failed", "interrupted"]


TEMPLATES_DIR = Path(__file__).parent / "templates"


# Formats in which an output may be shown, best first, and those that hide the output: a widget also has a static one.
FORMS = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain")


SILENT_FORMS = ("application/vnd.jupyter.widget-view+json", "application/javascript")


MOST_OUTPUT_LINES = 600


MOST_CHARACTERS = 5_000


@dataclass(frozen=True)
class ReportHeader:
    """The header of a report.

    Parameters
    ----------
    experiment, stage, title
        Names; the title is the page's only H1.
    status
        How the stage ended.
    started
        ISO time in UTC.
    seconds
        How long the stage took.
    question
        What the experiment predicts, as a question.
    run_id, git_commit
        The run in which the stage is recorded, and the commit of its code, or None.
    is_dirty
        Whether the code had uncommitted changes.
    parameters
        Rows of name, value and origin of the value.
    notes
        Further sentences, e.g. "Sample of 200 rows; not published." or warnings about what labkit cannot compare.
    """

    experiment: str
    stage: str
    title: str
    status: Status
    started: str
    seconds: float
    question: str = ""
    run_id: str | None = None
    git_commit: str | None = None
    is_dirty: bool = False
    parameters: Sequence[tuple[str, object, str]] = ()
    notes: Sequence[str] = ()


def render_report(
    executed: Path,
    html: Path,
    header: ReportHeader,
    *,
    neighbours: Sequence[tuple[str, str]] = (),
    params: Mapping[str, Any] | None = None,
) -> None:
    """Write an executed notebook as one self-contained page.

    Parameters
    ----------
    executed, html
        The notebook to read and the page to write.
    header
        Header of the page.
    neighbours
        Title and relative address of each page of the experiment, in order, including this one.
    params
        The experiment's parameters as plain nested data: cells tagged for others are left out. None keeps all.

    Raises
    ------
    StageError
        `executed` is not a notebook.
    """
    notebook = load_notebook(executed)
    if params is not None:
        show_muted(notebook.cells, params)
    selected = {id(cell) for cell in select_cells(notebook.cells, params)}
    notebook.cells = [cell for cell in notebook.cells if id(cell) in selected or has_stopped(cell)]
    failure = mark_failed_cells(notebook, header.status)
    in_body, in_appendix = move_to_appendix(notebook.cells)
    body, outline = render_cells(notebook, in_body, Outline(header.title))
    appendix, outline = render_cells(notebook, in_appendix, outline)
    contents = [heading for heading in outline.headings if heading.level == 2]
    addresses = [href for _, href in neighbours]
    place = addresses.index(html.name) if html.name in addresses else None
    write_page(
        html,
        "report.html.j2",
        header=header,
        failure=failure,
        body=body,
        appendix=appendix,
        contents=contents if len(contents) > 1 else [],
        neighbours=neighbours,
        current=html.name,
        previous=neighbours[place - 1] if place else None,
        next=neighbours[place + 1] if place is not None and place + 1 < len(neighbours) else None,
    )


def render_cells(notebook: NotebookNode, cells: list[NotebookNode], outline: Outline) -> tuple[Markup, Outline]:
    """Return some cells of a notebook as HTML, and the outline with their headings; nbconvert copies what it gets."""
    part = NotebookNode({**notebook, "cells": cells})
    html, resources = get_exporter().from_notebook_node(part, {"outline": outline})
    return Markup(html), resources["outline"]


def render_page(
    html: Path,
    *,
    title: str,
    markdown: str,
    neighbours: Sequence[tuple[str, str]] = (),
    question: str = "",
    run: str = "",
) -> None:
    """Write Markdown as one self-contained page, e.g. a publish decision with a model card.

    Parameters
    ----------
    title
        The page's only H1.
    markdown
        Its body; headings begin with the second level.
    neighbours
        See `render_report`.
    question, run
        What the experiment answers, and the name of the run that wrote the page, below the title; empty leaves it out.
    """
    outline = Outline(title)
    body = render_markdown(markdown, outline)
    contents = [heading for heading in outline.headings if heading.level == 2]
    write_page(
        html,
        "page.html.j2",
        title=title,
        question=question,
        run=run,
        body=body,
        contents=contents if len(contents) > 1 else [],
        neighbours=neighbours,
        current=html.name,
    )


def load_notebook(path: Path) -> NotebookNode:
    """Load an executed notebook of any minor version."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook, relax_add_props=True)
    except (OSError, ValueError, KeyError, AttributeError, nbformat.ValidationError) as error:
        raise StageError(f"{path}: no report, the executed notebook cannot be read ({error}); run it again") from error
    return notebook


def write_page(path: Path, template: str, **context: Any) -> None:
    """Render a template and write the page."""
    home = "../index.html" if path.parent.parent.name == "reports" else None
    write_text(path, get_exporter().environment.get_template(template).render(home=home, **context))


@cache
def get_exporter() -> TemplateExporter:
    """Return the exporter of this process; its environment escapes everything not marked as safe."""
    exporter = TemplateExporter(
        extra_template_basedirs=[str(TEMPLATES_DIR)],
        template_name="labkit",
        template_file="cells.html.j2",
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
        filters={
            "filter_data_type": choose_form,
            "ansi": render_ansi,
            "markdown": render_markdown,
            "python": render_python,
            "base64": lambda content: base64.b64encode(content.encode()).decode(),
            "base64_only": check_base64,
            "checks": enclose,
            "compact": compact_style,
            "first_line": find_first_line,
            "inline_code": mark_code,
            "counted": format_count,
            "number": format_number,
            "seconds": format_duration,
            "time": format_time,
        },
    )
    exporter.environment.autoescape = True
    exporter.environment.trim_blocks = exporter.environment.lstrip_blocks = True
    return exporter


def mark_failed_cells(notebook: NotebookNode, status: str) -> dict[str, Any] | None:
    """Mark the failed cell and those that did not run; return the content of the banner, None without a failure."""
    remove_banners(notebook)
    for cell in notebook.cells:
        cell.metadata["report_state"] = ""
    if status == "finished":
        return None
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    states = [get_state(cell) for cell in code]
    for cell, state in zip(code, states, strict=True):
        cell.metadata["report_state"] = "" if state == "finished" else state
    stopped = [cell for cell, state in zip(code, states, strict=True) if state not in ("finished", "not run")]
    raised = [output for cell in stopped for output in cell.outputs if output.output_type == "error"]
    error = f"{raised[-1].ename}: {raised[-1].evalue}" if raised else ""
    return {"found": bool(stopped), "error": error, "n_not_run": states.count("not run")}


def has_stopped(cell: NotebookNode) -> bool:
    """Return whether the stage failed or was interrupted in this cell."""
    return bool(cell.cell_type == "code") and get_state(cell) not in ("finished", "not run")


def choose_form(data: Mapping[str, Any]) -> list[str]:
    """Return the format in which to show an output, or none; the filter that nbconvert's `base` template calls."""
    if any(form in data for form in SILENT_FORMS):
        return []
    forms = [form for form in FORMS if form in data]
    if forms[:1] == ["text/html"] and len(forms) > 1 and is_hollow(data["text/html"]):
        return forms[1:2]
    return forms[:1]


def is_hollow(html: str) -> bool:
    """Return whether an HTML output is empty without its scripts or styles, like scikit-learn's diagrams."""
    return "sk-top-container" in html or ("<script" in html and not CLEANER.clean(html).strip())


def render_markdown(source: str, outline: Outline, attachments: Mapping[str, Any] | None = None) -> Markup:
    """Return Markdown as clean HTML, with its headings added to the page's outline."""
    renderer = PageRenderer(escape=False, exclude_anchor_links=True, attachments=dict(attachments or {}))
    return outline.clean(MarkdownWithMath(renderer=renderer).render(source))


def render_ansi(output: str) -> Markup:
    """Return terminal output as escaped HTML, colours as classes, very long output without its middle."""
    lines = [line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} …" for line in output.splitlines()]
    if len(lines) > MOST_OUTPUT_LINES:
        left_out = (
            f"… {format_count(len(lines) - MOST_OUTPUT_LINES, 'line')} left out; the executed notebook has them …"
        )
        lines = [*lines[: MOST_OUTPUT_LINES - 100], left_out, *lines[-100:]]
    return render_colours("\n".join(lines))


def render_python(source: str) -> Markup:
    """Return Python code as escaped HTML with the classes of pygments."""
    return Markup(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n"))


def mark_code(sentence: str) -> Markup:
    """Return a sentence as escaped HTML, with what is between backticks as code.

    >>> mark_code("What is `late`?")
    Markup('What is <code>late</code>?')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def compact_style(sheet: str) -> Markup:
    """Return a style sheet without comments and spaces that no browser needs; every page carries it.

    >>> compact_style("/* text */\\na  b {\\n  top: calc(1px + 2px);\\n}\\n")
    Markup('a b{top: calc(1px + 2px)}')
    """
    plain = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", str(sheet), flags=re.DOTALL))
    return Markup(re.sub(r" ?([{};]) ?", r"\1", plain).replace(";}", "}").strip())


def find_first_line(content: str) -> str:
    """Return the first line that is not a comment, without the path at the start of a warning.

    >>> find_first_line("# Parameters\\nfolds = 7")
    'folds = 7'
    >>> find_first_line("\\n/tmp/ipykernel_7/12.py:3: UserWarning: small sample")
    'UserWarning: small sample'
    >>> find_first_line("/home/me/.venv/lib/python3.11/site-packages/sklearn/base.py:5: FutureWarning: no effect")
    'FutureWarning: no effect'
    """
    lines = [line for line in content.splitlines() if line.strip()]
    line = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    return re.sub(r"^\S.*?\.py:\d+: (?=\w*Warning\b)", "", line)


def format_time(timestamp: str | None) -> str:
    """Return an ISO time in UTC, to the minute.

    >>> format_time("2026-11-24T10:11:12.5+01:00")
    '2026-11-24 09:11 UTC'
    """
    try:
        moment = datetime.fromisoformat(timestamp or "")
    except ValueError:
        return timestamp or ""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


class PageRenderer(IPythonRenderer):
    """nbconvert's Markdown, with TeX shown as code because nothing typesets it."""

    def inline_math(self, body: str) -> str:
        """Return an inline formula."""
        return f'<code class="math">{escape(body.strip())}</code>'

    def block_math(self, body: str) -> str:
        """Return a formula in a block."""
        return f'<code class="math block">{escape(body.strip())}</code>'

    def latex_environment(self, name: str, body: str) -> str:
        """Return the formula between `\\begin{…}` and `\\end{…}`."""
        return self.block_math(body)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return an image, or its description if the notebook does not contain it."""
        try:
            return super().image(text, url, title)
        except InvalidNotebook:
            return str(escape(text))
