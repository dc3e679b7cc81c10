"""The checks on the page of a stage, muted as the params declare it today, whenever the stage ran.

The executed notebook has the results beside the output that shows them. When they are rendered, and whenever the
release is published, they are shown as `checks.mute` says then, so that muting a check runs no stage again.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from nbformat import NotebookNode

from labkit.checks import CHECKS, CheckResult, mute, render_checks
from labkit.errors import DataError
from labkit.run.reports.sanitize import Outline
from labkit.storage.atomic import write_text

BEGIN, END = Markup("<!-- checks -->"), Markup("<!-- end of checks -->")
"""Enclose the checks on a page; comments in outputs are removed, so no other place has them."""


def show_muted(cells: Sequence[NotebookNode], params: Mapping[str, Any]) -> None:
    """Replace the checks that cells show by the same checks, muted as the params declare it."""
    for cell in cells:
        for output in cell.get("outputs", []):
            if CHECKS in output.get("metadata", {}) and "text/html" in output.get("data", {}):
                output.data["text/html"] = render_muted(output.metadata[CHECKS], params["checks"]["mute"])


def update_page(page: Path, checks: Sequence[Mapping[str, str]], reasons: Mapping[str, str]) -> None:
    """Show the checks of a page muted for these reasons; a page that has none, or shows them so, is left as it is."""
    content = page.read_text(encoding="utf-8") if page.is_file() and checks else ""
    shown = enclose(Outline("").clean(render_muted(checks, reasons)))
    changed = re.sub(f"{BEGIN}.*?{END}", lambda _: shown, content, flags=re.DOTALL)
    if changed != content:
        write_text(page, changed)


def render_muted(checks: Sequence[Mapping[str, str]], reasons: Mapping[str, str]) -> str:
    """Return results of checks as HTML, muted for these reasons.

    Raises
    ------
    DataError
        They are not results of checks.
    """
    try:
        return render_checks(mute([CheckResult.from_dict(check) for check in checks], reasons))
    except (TypeError, AttributeError) as error:
        raise DataError("the results of the checks cannot be read: run the stage that made them again") from error


def enclose(html: str) -> Markup:
    """Return clean HTML of checks between the comments that mark it."""
    return Markup('{}<div class="html">{}</div>{}').format(BEGIN, Markup(html), END)
