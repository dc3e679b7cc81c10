"""Checks are muted on the pages of stages as on the index, without running a stage again."""

from pathlib import Path

import nbformat
import pytest
from labkit.checks import CHECKS, CheckResult, render_checks
from labkit.errors import DataError
from labkit.run.reports import render
from labkit.run.reports.checks_on_page import render_muted, update_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

CHECKS_FOUND = [CheckResult("LK205", "warning", "a <b> (PSI 0.30)"), CheckResult("LK206", "passed", "by index")]
STORED = [result.to_dict() for result in CHECKS_FOUND]
REASON = "prices rose in <spring>"


def write_page(folder: Path, reasons: dict[str, str]) -> Path:
    """Render a page whose notebook shows the checks, as a stage would."""
    data = {"text/html": render_checks(CHECKS_FOUND)}
    outputs = [new_output("display_data", data, metadata={CHECKS: STORED})]
    shown = new_code_cell("show()", outputs=outputs)
    cells = [new_markdown_cell("# Wrangling"), shown, new_markdown_cell("## The split")]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    nbformat.write(new_notebook(cells=cells), folder / "02.ipynb")
    header = render.ReportHeader("x", "wrangling", "Wrangling", "finished", "2026-11-01T00:00:00+00:00", 1.0)
    page = folder / "02.html"
    render.render_report(folder / "02.ipynb", page, header, params={"checks": {"mute": reasons}})
    return page


def test_page_shows_why_a_check_is_muted(tmp_path: Path) -> None:
    assert "⚠ <strong>" in write_page(tmp_path, {}).read_text()
    page = write_page(tmp_path, {"LK205": REASON}).read_text()
    assert "⚠ <strong>" not in page
    assert "1 passed, 1 muted" in page
    assert "muted: prices rose in &lt;spring&gt;" in page


def test_page_follows_the_params_later_and_back(tmp_path: Path) -> None:
    page = write_page(tmp_path, {})
    loud = page.read_bytes()
    update_page(page, STORED, {"LK205": REASON})
    assert page.read_bytes() == write_page(tmp_path, {"LK205": REASON}).read_bytes()
    update_page(page, STORED, {})
    assert page.read_bytes() == loud


def test_page_without_a_change_or_without_checks_is_not_written(tmp_path: Path) -> None:
    page = write_page(tmp_path, {})
    before = page.stat()
    update_page(page, STORED, {"LK206": "it passed"})
    update_page(page, [], {"LK205": REASON})
    update_page(tmp_path / "none.html", STORED, {"LK205": REASON})
    assert (page.stat().st_mtime_ns, page.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(DataError, match="run the stage that made"):
        render_muted([{"code": "LK205"}], {})
    with pytest.raises(DataError, match="cannot be read"):
        render_muted(["LK205"], {})  # type: ignore[list-item]
