"""Hostile strings in a notebook that really runs, in the publication, the card and the index: nothing runs or loads.

Outputs put together by hand, one carrier each: `tests.run.reports.test_render`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from labkit.params.load import load_params
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.source import read_source
from labkit.run.reports.index import render_index
from labkit.run.reports.render import render_report
from labkit.stages.publish import Publication, write_decision
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from playwright.sync_api import Page

from tests.model.release.cards import write_card
from tests.run.reports.attacks import ATTACK, ELSEWHERE, PAYLOAD, make_header

pytestmark = pytest.mark.slow

Visit = Callable[..., tuple[Page, list[str]]]

SOURCES = {
    "setup": "import sys, warnings\nimport pandas as pd\nfrom IPython.display import HTML, SVG, Image, Javascript, Latex, Markdown, display",
    "frame": "pd.DataFrame({payload: [payload]}, index=[payload])",
    "series": "pd.Series([payload], name=payload)",
    "dict": "{payload: payload}",
    "print": "print(payload)\nprint(payload, file=sys.stderr)",
    "warning": "warnings.warn(payload)",
    "styler": "pd.DataFrame({payload: [payload]}, index=[payload]).style.set_caption(payload)",
    "styled values": "pd.DataFrame({'kept': [1.5]}).style.format(lambda value: payload).set_table_attributes(payload)",
    "html": "HTML(payload)",
    "unescaped": "HTML(pd.DataFrame({payload: [payload]}).to_html(escape=False))",
    "markdown": "Markdown(payload + '\\n\\n[x](javascript:' + attack + ') ![x](' + elsewhere + ')')",
    "svg": "SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"' + attack + '\"><script>' + attack + '</script></svg>')",
    "javascript": "Javascript(attack)",
    "javascript from elsewhere": "Javascript(attack, lib=elsewhere, css=elsewhere)",
    "image from elsewhere": "Image(url=elsewhere)",
    "latex": "Latex(payload)",
    "own repr": "class Own:\n    def _repr_html_(self):\n        return payload\n    def _repr_mimebundle_(self, **options):\n        return {'text/html': payload, 'application/javascript': attack, 'text/plain': payload}\nOwn()",
    "display handle": "handle = display(HTML('<b>before</b>'), display_id=True)\nhandle.update(HTML(payload))",
    "estimator": "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\nmake_pipeline(FunctionTransformer(kw_args={payload: payload}))",
    "external": "HTML('<link rel=stylesheet href=' + elsewhere + '><img src=' + elsewhere + '><iframe src=' + elsewhere + '></iframe>')",
    "table that is kept": "pd.DataFrame({'kept': [1.5, 2.5]})",
    "image that is kept": "import base64\nImage(base64.b64decode(pixel))",
    "error": "raise RuntimeError(payload)",
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def page_of_hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a notebook that ran and displayed every hostile object."""
    folder = tmp_path_factory.mktemp("hostile")
    named = {"payload": PAYLOAD, "attack": ATTACK, "elsewhere": ELSEWHERE, "pixel": PIXEL}
    first = new_code_cell('experiment = "x"', metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(f"## {PAYLOAD}\n\n{PAYLOAD}"), first]
    cells += [new_code_cell("\n".join(f"{name} = {content!r}" for name, content in named.items()))]
    cells += [new_code_cell(source) for source in SOURCES.values()]
    cells.insert(5, new_raw_cell(PAYLOAD, metadata={"raw_mimetype": "text/html"}))
    kernel = {"name": "python3", "display_name": PAYLOAD, "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel, "title": PAYLOAD}), folder / "a.ipynb")
    ended = run_notebook(
        read_source(folder / "a.ipynb"),
        folder / "executed.ipynb",
        parameters={"experiment": "x"},
        environment={**os.environ, "LABKIT_WARM": ""},
        on_cell=lambda *cell: None,
    )
    assert ended.failure is not None
    assert ended.failure.error_name == "RuntimeError", "every cell before the last one ran"
    executed = nbformat.read(folder / "executed.ipynb", as_version=4)
    silent = [cell.source for cell in executed.cells[4:] if cell.cell_type == "code" and not cell.outputs]
    assert silent == [SOURCES["setup"]], "every hostile cell put something out"
    header = make_header(status="failed", title=PAYLOAD)
    render_report(folder / "executed.ipynb", folder / "a.html", header)
    return folder / "a.html"


def check_inert(path: Path, visit: Visit) -> Page:
    """Open a page, also without its policy, and see that nothing in it ran or asked for anything."""
    unguarded = path.with_name(f"{path.stem}-unguarded.html")
    content = re.sub(r"<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8"))
    assert content != path.read_text(encoding="utf-8"), "the page has a policy"
    unguarded.write_text(content, encoding="utf-8")
    for one in (unguarded, path):
        page, complaints = visit(one)
        page.wait_for_timeout(50)
        assert complaints == []
        assert page.locator("html[hacked], script, svg, iframe, object, embed, link[rel=stylesheet]").count() == 0
        assert page.locator("[onload], [onerror], a[href^='javascript:'], a[href^='data:']").count() == 0
    return page


def test_page_of_a_hostile_notebook_is_inert_and_keeps_tables_and_images(
    page_of_hostile_run: Path, visit: Visit
) -> None:
    page = check_inert(page_of_hostile_run, visit)
    kept = page.locator("table.dataframe", has_text="kept").last
    assert kept.locator("tbody td").all_inner_texts() == ["1.5", "2.5"]
    assert page.locator(f'img[src="data:image/png;base64,{PIXEL}"]').evaluate("image => image.naturalWidth") == 1
    assert page.locator("h1").count() == 1
    assert "<script>" in page.locator("main").inner_text(), "what was given is shown as text"


def test_pages_of_a_hostile_publication_are_inert(checkout: Path, visit: Visit) -> None:
    card = checkout / "data/diabetes/release/MODEL_CARD.md"
    card.parent.mkdir(parents=True)
    hostile = PAYLOAD.replace("\n", " ")
    content = write_card("classification", reason=hostile, owner=hostile, intended_use=hostile)
    assert content.count(ATTACK) >= 3
    card.write_text(f"{content}\n\n| {hostile} |\n|---|\n| 1 |\n\n![x]({ELSEWHERE})\n\n[x](javascript:{ATTACK})\n")
    done = Publication("refused", [hostile, f"[x](javascript:{ATTACK})"], None, hostile)
    write_decision(load_params("diabetes"), done)
    page = check_inert(checkout / "reports/diabetes/publish.html", visit)
    assert page.locator("table").count() >= 2, "the card's own tables are there"
    check_inert(render_index(checkout / "reports"), visit)
