"""The HTML reports: every executed notebook as one page, plain pages in the same look, and the index of them all.

Not what a report says: that is the notebook. Pages hold no script and load nothing; whatever a notebook put out passes
an allow-list first. Read next: `labkit.run.reports.sanitize`, that list, and `templates/labkit/`, how the pages look.
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
from labkit.run.reports.sanitize import CLEANER, Outline, check_base64, render_colours
from labkit.storage.atomic import write_text
from labkit.units import format_count

Status = Literal["finished", "failed", "interrupted"]


TEMPLATES_DIR = Path(__file__).parent / "templates"


# What an output may be shown as, best first, and what hides the whole output: a widget's static twin is a separate one.
FORMS = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain")


SILENT_FORMS = ("application/vnd.jupyter.widget-view+json", "application/javascript")


MOST_OUTPUT_LINES = 600


MOST_CHARACTERS = 5_000


@dataclass(frozen=True)
class ReportHeader:
    """What stands above a report.

    Parameters
    ----------
    experiment, stage, title
        Names; the title is the page's one H1.
    status
        How the stage ended.
    started
        ISO time in UTC.
    seconds
        How long the stage took.
    run_id, git_commit
        Where the stage is recorded, and the code that ran; None where there is none.
    is_dirty
        Whether code that ran was not committed.
    parameters
        Rows of name, value and whence the value came.
    notes
        Sentences more, e.g. "Sample of 200 rows; not published." or what the stage reads that labkit cannot compare.
    """

    experiment: str
    stage: str
    title: str
    status: Status
    started: str
    seconds: float
    run_id: str | None = None
    git_commit: str | None = None
    is_dirty: bool = False
    parameters: Sequence[tuple[str, object, str]] = ()
    notes: Sequence[str] = ()


def render_report(
    executed: Path, html: Path, header: ReportHeader, *, neighbours: Sequence[tuple[str, str]] = ()
) -> None:
    """Write an executed notebook as one self-contained page.

    Parameters
    ----------
    executed, html
        The notebook to read and the page to write.
    header
        What stands above it.
    neighbours
        Title and relative address of each page of the experiment in their order, this one included.

    Raises
    ------
    StageError
        `executed` is not a notebook.
    """
    notebook = load_notebook(executed)
    failure = mark_failed_cells(notebook, header.status)
    body, resources = get_exporter().from_notebook_node(notebook, {"outline": Outline(header.title)})
    contents = [heading for heading in resources["outline"].headings if heading.level == 2]
    addresses = [href for _, href in neighbours]
    place = addresses.index(html.name) if html.name in addresses else None
    write_page(
        html,
        "report.html.j2",
        header=header,
        failure=failure,
        body=Markup(body),
        contents=contents if len(contents) > 1 else [],
        neighbours=neighbours,
        current=html.name,
        previous=neighbours[place - 1] if place else None,
        next=neighbours[place + 1] if place is not None and place + 1 < len(neighbours) else None,
    )


def render_page(html: Path, *, title: str, markdown: str) -> None:
    """Write a Markdown text as one self-contained page, e.g. a publish decision or a model card."""
    write_page(html, "page.html.j2", title=title, body=render_markdown(markdown, Outline(title)))


def load_notebook(path: Path) -> NotebookNode:
    """Read an executed notebook, whatever its minor version."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook, relax_add_props=True)
    except (OSError, ValueError, KeyError, AttributeError, nbformat.ValidationError) as error:
        raise StageError(f"{path}: no report, the executed notebook cannot be read ({error}); run it again") from error
    return notebook


def write_page(path: Path, template: str, **context: Any) -> None:
    """Fill a template and put the page in place."""
    home = "../index.html" if path.parent.parent.name == "reports" else None
    write_text(path, get_exporter().environment.get_template(template).render(home=home, **context))


@cache
def get_exporter() -> TemplateExporter:
    """Return the one exporter of this process; its environment escapes whatever is not marked as clean."""
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
            "first_line": find_first_line,
            "counted": format_count,
            "seconds": format_duration,
            "time": format_time,
        },
    )
    exporter.environment.autoescape = True
    exporter.environment.trim_blocks = exporter.environment.lstrip_blocks = True
    return exporter


def mark_failed_cells(notebook: NotebookNode, status: str) -> dict[str, Any] | None:
    """Mark the failing cell and those that did not run; return what the banner says, None if all went well."""
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


def choose_form(data: Mapping[str, Any]) -> list[str]:
    """Return the form in which an output is shown, or none; the filter that nbconvert's `base` template calls."""
    if any(form in data for form in SILENT_FORMS):
        return []
    forms = [form for form in FORMS if form in data]
    if forms[:1] == ["text/html"] and len(forms) > 1 and is_hollow(data["text/html"]):
        return forms[1:2]
    return forms[:1]


def is_hollow(html: str) -> bool:
    """Return whether an HTML output is nothing without its script or style, as scikit-learn's estimator diagrams."""
    return "sk-top-container" in html or ("<script" in html and not CLEANER.clean(html).strip())


def render_markdown(source: str, outline: Outline, attachments: Mapping[str, Any] | None = None) -> Markup:
    """Return Markdown as clean HTML, its headings and figures noted in the page's outline."""
    renderer = PageRenderer(escape=False, exclude_anchor_links=True, attachments=dict(attachments or {}))
    return outline.clean(MarkdownWithMath(renderer=renderer).render(source))


def render_ansi(output: str) -> Markup:
    """Return terminal text as escaped HTML, its colours as classes, without the middle of what is very long."""
    lines = [line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} …" for line in output.splitlines()]
    if len(lines) > MOST_OUTPUT_LINES:
        left_out = (
            f"… {format_count(len(lines) - MOST_OUTPUT_LINES, 'line')} left out; the executed notebook has them …"
        )
        lines = [*lines[: MOST_OUTPUT_LINES - 100], left_out, *lines[-100:]]
    return render_colours("\n".join(lines))


def render_python(source: str) -> Markup:
    """Return Python code as escaped HTML, its tokens marked by pygments' classes."""
    return Markup(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n"))


def find_first_line(content: str) -> str:
    """Return the line that tells most of a text: its first that is no comment, without the file a warning names.

    >>> find_first_line("# Parameters\\nfolds = 7")
    'folds = 7'
    >>> find_first_line("\\n/tmp/ipykernel_7/12.py:3: UserWarning: small sample")
    'UserWarning: small sample'
    """
    lines = [line for line in content.splitlines() if line.strip()]
    line = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    return re.sub(r"^\S*ipykernel_\S*:\d+: ", "", line)


def format_duration(seconds: float | None) -> str:
    """Return a duration for people.

    >>> [format_duration(seconds) for seconds in (0.42, 12.34, 125, 3900, None)]
    ['0.4 s', '12.3 s', '2 min 05 s', '1 h 05 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_time(timestamp: str | None) -> str:
    """Return an ISO time as people read it, in UTC.

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
    """Markdown as nbconvert reads it; TeX stays readable as code, as nothing typesets it."""

    def inline_math(self, body: str) -> str:
        """Return a formula within a line."""
        return f'<code class="math">{escape(body.strip())}</code>'

    def block_math(self, body: str) -> str:
        """Return a formula on a line of its own."""
        return f'<code class="math block">{escape(body.strip())}</code>'

    def latex_environment(self, name: str, body: str) -> str:
        """Return the formula within `\\begin{…}` and `\\end{…}`."""
        return self.block_math(body)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Return an image, or its description where the notebook lacks it."""
        try:
            return super().image(text, url, title)
        except InvalidNotebook:
            return str(escape(text))
