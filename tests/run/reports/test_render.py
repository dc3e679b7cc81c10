"""The reports: what they show, and that nothing in a notebook can make them run or load anything."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from labkit.errors import StageError
from labkit.run.records.stage_record import StageRecord, load_records, save_record
from labkit.run.reports.index import load_experiment, render_index
from labkit.run.reports.render import TEMPLATES_DIR, ReportHeader, render_page, render_report
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from tests.run.reports.attacks import ATTACK, ELSEWHERE, PAYLOAD, make_header

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def show(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> NotebookNode:
    output = new_output("display_data", data=data, metadata=metadata or {})
    return new_code_cell("show()", execution_count=1, outputs=[output])


def write(printed: str, name: str = "stdout") -> NotebookNode:
    return new_code_cell("print()", execution_count=1, outputs=[new_output("stream", name=name, text=printed)])


def raise_error(name: str, value: str, traceback: list[str] | None = None) -> NotebookNode:
    output = new_output("error", ename=name, evalue=value, traceback=traceback or [f"\x1b[0;31m{name}\x1b[0m: {value}"])
    return new_code_cell("fail()", execution_count=2, outputs=[output])


def render(folder: Path, cells: list[NotebookNode], header: ReportHeader | None = None, **more: Any) -> Path:
    executed, html = folder / "04_training.ipynb", folder / "04_training.html"
    nbformat.write(new_notebook(cells=cells), executed)
    render_report(executed, html, header or make_header(), **more)
    return html


def make_hostile_svg() -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" onload="{ATTACK}"><script>{ATTACK}</script><rect width="9"/></svg>'


CARRIERS: dict[str, Callable[[], list[NotebookNode]]] = {
    "frame cell": lambda: [show({"text/html": pd.DataFrame({"a": [PAYLOAD]})._repr_html_()})],
    "column name": lambda: [show({"text/html": pd.DataFrame({PAYLOAD: [1]})._repr_html_()})],
    "index name": lambda: [show({"text/html": pd.DataFrame({"a": [1]}, index=[PAYLOAD])._repr_html_()})],
    "series": lambda: [show({"text/plain": repr(pd.Series([PAYLOAD], name=PAYLOAD))})],
    "dict": lambda: [show({"text/plain": repr({PAYLOAD: PAYLOAD})})],
    "print": lambda: [write(PAYLOAD)],
    "warning": lambda: [write(f"/tmp/ipykernel_1/2.py:3: UserWarning: {PAYLOAD}", "stderr")],
    "terminal colours": lambda: [write(f"\x1b[31m{PAYLOAD}\x1b[0m \x1b[{PAYLOAD}m")],
    "estimator": lambda: [show({"text/html": f'<div class="sk-top-container">{PAYLOAD}', "text/plain": PAYLOAD})],
    "raw cell": lambda: [new_raw_cell(PAYLOAD, metadata={"raw_mimetype": "text/html"})],
    "code": lambda: [new_code_cell(f"{PAYLOAD}\nx = '''{PAYLOAD}'''  # {PAYLOAD}", execution_count=1)],
    "error": lambda: [raise_error(PAYLOAD, PAYLOAD, [PAYLOAD])],
    "style cells": lambda: [show({"text/html": pd.DataFrame({"a": [PAYLOAD]}).style.to_html()})],
    "style index": lambda: [show({"text/html": pd.DataFrame({PAYLOAD: [1]}, index=[PAYLOAD]).style.to_html()})],
    "style sheet": lambda: [
        show({"text/html": f"<style>#T_1 {{ background-color: {PAYLOAD} }}</style><table><tr><td id='T_1'>1</table>"})
    ],
    "html": lambda: [show({"text/html": PAYLOAD})],
    "unescaped frame": lambda: [show({"text/html": pd.DataFrame({PAYLOAD: [PAYLOAD]}).to_html(escape=False)})],
    "html attribute": lambda: [show({"text/html": f"<img alt='{PAYLOAD}' title='{PAYLOAD}' src='data:,x'>"})],
    "heading in attribute": lambda: [
        show({"text/html": f'<a title="<h2>onmouseover={ATTACK} x=</h2><img>" href="javascript:{ATTACK}">x</a>'})
    ],
    "broken nesting": lambda: [
        show(
            {"text/html": f'</div></section><math><mtext><table><mglyph><style><!--</style><img title="--&gt;{PAYLOAD}'}
        )
    ],
    "markdown output": lambda: [show({"text/markdown": PAYLOAD})],
    "markdown cell": lambda: [new_markdown_cell(f"# {PAYLOAD}\n\n## {PAYLOAD}\n\n{PAYLOAD}\n\n`{PAYLOAD}`")],
    "markdown link": lambda: [
        new_markdown_cell(f"[x](javascript:{ATTACK}) [y](data:text/html,{ATTACK}) ![{PAYLOAD}](x)")
    ],
    "markdown code": lambda: [new_markdown_cell(f'```python {PAYLOAD}\n{PAYLOAD}\n```\n\n```"{PAYLOAD}\nx\n```')],
    "formula": lambda: [
        new_markdown_cell(f"$ {PAYLOAD} $\n\n$$ {PAYLOAD} $$\n\n\\begin{{align}}{PAYLOAD}\\end{{align}}")
    ],
    "attachment": lambda: [
        new_markdown_cell("![x](attachment:a.png)", attachments={"a.png": {"image/png": f'"{PAYLOAD}'}}),
        new_markdown_cell(f"![{PAYLOAD}](attachment:missing.png)"),
    ],
    "svg in html": lambda: [show({"text/html": f"<p>before</p>{make_hostile_svg()}"})],
    "svg image": lambda: [show({"image/svg+xml": make_hostile_svg()})],
    "javascript": lambda: [show({"application/javascript": ATTACK, "text/plain": PAYLOAD})],
    "image data": lambda: [show({"image/png": PAYLOAD}), show({"image/jpeg": PAYLOAD})],
    "image metadata": lambda: [
        show({"image/png": PIXEL}, {"image/png": {"alt": PAYLOAD, "width": PAYLOAD, "height": PAYLOAD}})
    ],
    "latex": lambda: [show({"text/latex": PAYLOAD})],
    "widget": lambda: [
        show({"application/vnd.jupyter.widget-view+json": {"model_id": PAYLOAD}, "text/plain": PAYLOAD})
    ],
    "unknown form": lambda: [show({"text/vnd.mermaid": PAYLOAD, PAYLOAD: PAYLOAD, "text/plain": PAYLOAD})],
    "cell metadata": lambda: [
        new_code_cell(
            "x",
            execution_count=1,
            metadata={"tags": [PAYLOAD.replace(",", ";")], "report_state": PAYLOAD, "alt": PAYLOAD},
        )
    ],
    "requests in html": lambda: [
        show(
            {
                "text/html": f'<link rel="stylesheet" href="{ELSEWHERE}"><style>@import url({ELSEWHERE});</style>'
                f"<style>#a {{ background-color: url({ELSEWHERE}); background-image: url({ELSEWHERE}) }}</style>"
                f'<table background="{ELSEWHERE}"><tr><td id="a" style="background: url({ELSEWHERE})">1</td></table>'
                f'<img src="{ELSEWHERE}" srcset="{ELSEWHERE}"><img src="//127.0.0.1:9/x">'
                f'<iframe src="{ELSEWHERE}"></iframe>'
                f'<object data="{ELSEWHERE}"></object><video src="{ELSEWHERE}" poster="{ELSEWHERE}" autoplay></video>'
                f'<meta http-equiv="refresh" content="0;url={ELSEWHERE}"><base href="{ELSEWHERE}">'
                f'<form action="{ELSEWHERE}"><input type="image" src="{ELSEWHERE}"></form>'
            }
        )
    ],
    "requests in markdown": lambda: [
        new_markdown_cell(f"![x]({ELSEWHERE}) <img src={ELSEWHERE}> ![file](secret.png)"),
        show({"image/svg+xml": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{ELSEWHERE}"/></svg>'}),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("carrier", CARRIERS)
def test_nothing_in_a_notebook_runs_or_loads(carrier, tmp_path, visit):
    proof = [show({"text/html": pd.DataFrame({"kept": [1.5]})._repr_html_()}), show({"image/png": PIXEL})]
    html = render(tmp_path, [*CARRIERS[carrier](), *proof], make_header(status="failed"))
    unguarded = tmp_path / "unguarded.html"
    # The policy alone would stop every attack; without it the allow-list must.
    unguarded.write_text(re.sub(r"<meta http-equiv[^>]*>", "", html.read_text()), encoding="utf-8")
    for path in (html, unguarded):
        page, complaints = visit(path)
        page.wait_for_timeout(30)
        assert complaints == []
        assert page.locator("html[hacked], script, main svg, iframe, [onload], [onerror]").count() == 0
        assert page.locator("a[href^='javascript:'], a[href^='data:']").count() == 0
        assert page.locator("table.dataframe th", has_text="kept").count() == 1
        assert page.locator(f'img[src="data:image/png;base64,{PIXEL}"]').count() >= 1


def test_the_attack_is_one(tmp_path, visit):
    path = tmp_path / "attack.html"
    path.write_text(f'<html><body><p title="{PAYLOAD}</body></html>', encoding="utf-8")
    page, complaints = visit(path)
    page.wait_for_timeout(30)
    assert page.locator("html[hacked]").count() == 1
    assert complaints


@pytest.mark.slow
def test_names_and_strings_around_the_cells_are_escaped(tmp_path, visit):
    folder = tmp_path / "reports" / "diabetes"
    folder.mkdir(parents=True)
    header = make_header(
        experiment=PAYLOAD,
        stage=PAYLOAD,
        title=PAYLOAD,
        status="failed",
        started=PAYLOAD,
        run_id=PAYLOAD,
        git_commit=PAYLOAD,
        parameters=[(PAYLOAD, PAYLOAD, PAYLOAD)],
        notes=(PAYLOAD,),
    )
    report = render(
        folder, [raise_error("E", "x")], header, neighbours=[(PAYLOAD, "x.html"), ("y", "04_training.html")]
    )
    names = ("stage", "page", "title", "status", "started", "headline", "html", "run_id")
    row = dict.fromkeys(names, PAYLOAD)
    (folder / "04_training.json").write_text(json.dumps({**row, "seconds": 1}))
    (folder / "publish.json").write_text(
        json.dumps({"decision": PAYLOAD, "reasons": [PAYLOAD], "version": PAYLOAD, "headline": PAYLOAD})
    )
    render_page(folder / "card.html", title=PAYLOAD, markdown=PAYLOAD)
    for path in (report, folder / "card.html", render_index(tmp_path / "reports")):
        page, complaints = visit(path)
        assert complaints == []
        assert page.locator("html[hacked], script, svg").count() == 0
        assert page.locator("h1").count() == 1


def test_a_report_shows_what_ran(tmp_path):
    html = render(
        tmp_path, [new_markdown_cell("# Which model?\n\nAll of them.")], make_header(notes=("sample",))
    ).read_text()
    assert f'content="{POLICY}"' in html
    assert '<html lang="en">' in html
    assert "<script" not in html
    assert "http" not in html.replace('http-equiv="Content', "")
    for shown in (
        "finished",
        "2026-11-24 10:11 UTC",
        "12.3 s",
        "9f1c2b3a",
        "a1b2c3d4e5f6<",
        "sample",
        ">folds<",
        ">5<",
    ):
        assert shown in html
    assert html.count("Which model?</h1>") == 1


@pytest.mark.slow
def test_code_is_folded_and_there(tmp_path, visit):
    cells = [
        new_code_cell("folds = 5\nseed = 42", execution_count=1, metadata={"tags": ["parameters"]}),
        new_code_cell("# Parameters\nfolds = 7", execution_count=2, metadata={"tags": ["injected-parameters"]}),
        new_code_cell("\nmodel = fit(rows)\nmodel.score()", execution_count=3),
        new_code_cell("", execution_count=None),
    ]
    page, _ = visit(render(tmp_path, cells))
    assert page.locator("details.code summary").all_inner_texts() == [
        "Code\nmodel = fit(rows)",
        "Injected parameters\nfolds = 7",
    ]
    assert not page.get_by_text("model.score()").is_visible()
    page.get_by_text("model = fit(rows)").first.click()
    assert page.locator(f"#cell-{cells[2].id} pre").inner_text().strip() == "model = fit(rows)\nmodel.score()"
    assert page.locator(f"#cell-{cells[2].id} pre").is_visible()


@pytest.mark.slow
def test_a_failed_report_leads_to_the_cell(tmp_path, visit):
    cells = [
        new_markdown_cell(
            "<span id='papermill-error-cell'>An Exception", metadata={"tags": ["papermill-error-cell-tag"]}
        ),
        new_code_cell("x = 1", execution_count=1),
        raise_error("ValueError", "no rows left"),
        new_code_cell("y = 2"),
        new_code_cell("z = 3"),
    ]
    page, _ = visit(render(tmp_path, cells, make_header(status="failed")))
    banner = page.get_by_role("alert").inner_text()
    assert "This stage failed. ValueError: no rows left" in banner
    assert "2 cells did not run." in banner
    page.get_by_text("Go to the cell where it stopped").click()
    assert page.url.endswith("#failed")
    failed = page.locator("section.failed")
    assert failed.get_attribute("id") == f"cell-{cells[2].id}"
    assert failed.locator(".source").is_visible()
    assert failed.locator(".traceback .ansi-red-fg").inner_text() == "ValueError"
    assert page.locator("section.not-run .label").all_inner_texts() == ["Not run", "Not run"]
    assert "An Exception" not in page.content()


@pytest.mark.parametrize("state", ["died", "interrupted", "timed out"])
def test_a_cell_that_was_ended_is_marked_with_how(tmp_path, state):
    cells = [new_code_cell(f"x = {n}", execution_count=n if n < 3 else None) for n in (1, 2, 3)]
    for cell, ended in zip(cells, ("finished", state, "not run"), strict=True):
        cell.metadata["labkit"] = {"state": ended}
    html = render(tmp_path, cells, make_header(status="interrupted")).read_text()
    assert "This stage was interrupted." in html
    assert f"The stage stopped in this cell: {state}" in html
    assert f'<section class="cell failed" id="cell-{cells[1].id}">' in html
    assert f'<section class="cell not-run" id="cell-{cells[2].id}">' in html


def test_a_stage_that_failed_after_its_notebook_blames_no_cell(tmp_path):
    html = render(tmp_path, [new_code_cell("x = 1", execution_count=1)], make_header(status="failed")).read_text()
    assert "No cell of the notebook raised an error." in html
    assert 'id="failed"' not in html


def test_a_figure_is_described(tmp_path):
    cells = [
        show({"image/png": PIXEL}, {"image/png": {"alt": 'Error by "age"'}}),
        show({"image/png": PIXEL}, {"alt": "Rows by month"}),
        new_markdown_cell("## Where it errs\n\n![](data:image/png;base64,aa==)"),
        show({"image/png": PIXEL + "\n", "text/plain": "<Figure size 640x480>"}),
        show({"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"}, {"image/svg+xml": {"alt": "A tree"}}),
    ]
    html = render(tmp_path, cells).read_text()
    assert re.findall(r'<img[^>]* alt="([^"]*)"', html) == [
        "Error by &#34;age&#34;",
        "Rows by month",
        "Figure: Where it errs",
        "Figure: Where it errs",
        "A tree",
    ]
    assert base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode() in html
    assert "640x480" not in html


@pytest.mark.slow
def test_tables_keep_their_shape(tmp_path, visit):
    frame = pd.DataFrame(
        {"model": ["linear", "dummy"], "mae": [43.2, 64.9], "share": ["48 %", "NaN"], "on": ["1a2b", ""]}
    )
    styled = frame.style.highlight_max(subset=["mae"], color="yellow")
    page, _ = visit(render(tmp_path, [show({"text/html": frame._repr_html_()}), show({"text/html": styled.to_html()})]))
    assert page.locator("table.dataframe tbody td.num").all_inner_texts() == ["43.2", "48 %", "64.9", "NaN"]
    assert page.locator("table.dataframe thead th.num").all_inner_texts() == ["mae", "share"]
    cell = page.get_by_text("64.900000")
    assert cell.evaluate("cell => getComputedStyle(cell).backgroundColor") == "rgb(255, 255, 0)"
    assert page.locator(".html .scroll > table").count() == 2


def test_headings_become_contents_and_anchors(tmp_path):
    cells = [
        new_markdown_cell("# Which model?\n\n## Data\n\n### More\n\n## Data"),
        new_markdown_cell("## <b>Last</b> & done"),
    ]
    html = render(tmp_path, cells).read_text()
    contents = html[html.index('class="contents"') :]
    assert re.findall(r'<a href="#([^"]+)">(.+)</a>', contents) == [
        ("Data", "Data"),
        ("Data-3", "Data"),
        ("Last-%26-done", "Last &amp; done"),
    ]
    for anchor in ("Data", "Data-3", "Last-&amp;-done"):
        assert html.count(f'id="{anchor}"') == 1


def test_markdown_keeps_its_means(tmp_path):
    source = (
        "Mean $\\bar{x} < 3$ and `code`.\n\n| a | b |\n|---|---:|\n| x | 1 |\n| 2013-10-15 05:00 | 2 |\n| 2013-09 | 3 |\n\n<details><summary>More</summary>\n\n"
        "hidden\n\n</details>\n\n```python\nx = 'y'\n```\n\nGo to [deploy](06_deploy.ipynb#Data), see [there](https://example.org/a.ipynb)."
    )
    html = render(tmp_path, [new_markdown_cell(source)]).read_text()
    assert '<code class="math">\\bar{x} &lt; 3</code>' in html
    assert re.search(r'<td[^>]* class="num"[^>]*>1</td>', html)
    assert re.search(r'<td[^>]* class="date"[^>]*>2013-10-15 05:00</td>', html)
    assert re.search(r'<td[^>]* class="date"[^>]*>2013-09</td>', html)
    assert "<details><summary>More</summary>" in html
    assert '<span class="s1">' in html
    assert '<a href="06_deploy.html#Data"' in html
    assert '<a href="https://example.org/a.ipynb"' in html


def test_widgets_and_estimator_diagrams_give_way_to_text(tmp_path):
    cells = [
        show({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "interactive(children=…)"}),
        show({"text/html": "<style>x</style><div class='sk-top-container'>diagram</div>", "text/plain": "Ridge()"}),
        show({"text/html": "<script>plot()</script>", "image/png": PIXEL}),
    ]
    html = render(tmp_path, cells).read_text()
    assert "interactive(" not in html
    assert "diagram" not in html
    assert "Ridge()" in html
    assert PIXEL in html


def test_long_outputs_lose_their_middle(tmp_path):
    cells = [write("\n".join(f"line {n}" for n in range(5_000))), write("12 %\r100 %\n"), write("x" * 20_000)]
    html = render(tmp_path, cells).read_text()
    assert "line 4999" in html
    assert "line 2500" not in html
    assert "4,400 lines left out" in html
    assert "100 %" in html
    assert "12 %" not in html
    assert len(html) < 60_000


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen(width, scheme, tmp_path, visit):
    wide = pd.DataFrame([range(40)], columns=[f"a_rather_long_name_{n}" for n in range(40)])
    cells = [
        new_markdown_cell("## One\n\n" + "word" * 200 + "\n\n## Two\n\n" + wide.to_html()),
        show({"text/html": wide.to_html()}),
        write("x" * 3000),
        new_code_cell("y" * 400, execution_count=3),
        raise_error("E", "z" * 900),
    ]
    header = make_header(
        status="failed", parameters=[("long.name_" * 9, list(range(200)), "default")], run_id="f" * 200
    )
    page, _ = visit(render(tmp_path, cells, header), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.locator("nav.contents").is_visible() is (width == 1280)


@pytest.mark.slow
def test_sentences_at_the_end_of_a_wide_table_stay_readable_on_a_phone(tmp_path, visit):
    sentence = "the second evaluation of the chosen candidate; then fitted with the training rows"
    table = pd.DataFrame(
        {"first day of the part (America/New_York)": ["2013-08-01"], "rows": [28725], "use": [sentence]}
    )
    page, _ = visit(
        render(tmp_path, [show({"text/html": table.to_html(index=False)})]), viewport={"width": 390, "height": 800}
    )
    assert page.get_by_text(sentence).bounding_box()["width"] > 150


@pytest.mark.slow
def test_print_shows_figures_and_no_folded_code(tmp_path, visit):
    page, _ = visit(render(tmp_path, [new_code_cell("hidden = 1", execution_count=1), show({"image/png": PIXEL})]))
    page.emulate_media(media="print")
    assert not page.get_by_text("hidden = 1").first.is_visible()
    assert page.locator("figure img").is_visible()


def compute_luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(theme):
    """WCAG 2.2 AA: 4.5 to 1 for text."""
    blocks = (TEMPLATES_DIR / "labkit" / "style.css").read_text().split(":root")[1:]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[theme]))
    pairs = [(fore, back) for fore in ("text", "muted", "link") for back in ("page", "sheet", "soft")]
    pairs += [(fore, "soft") for fore in ("keyword", "string", "comment", "number", "name")]
    pairs += [(tone, back) for tone in ("good", "warn", "bad") for back in ("sheet", f"{tone}-soft")]
    for fore, back in pairs + [("text", "bad-soft"), ("link", "bad-soft")]:
        high, low = sorted((compute_luminance(colours[fore]), compute_luminance(colours[back])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (fore, back)


def test_pages_lead_to_each_other(tmp_path):
    folder = tmp_path / "reports" / "diabetes"
    folder.mkdir(parents=True)
    pages = [
        ("03 features", "03_features.html"),
        ("04 training", "04_training.html"),
        ("05 evaluation", "05_evaluation.html"),
    ]
    html = render(folder, [], neighbours=pages).read_text()
    assert '<a href="../index.html">All reports</a>' in html
    assert '<a href="04_training.html" aria-current="page">' in html
    assert 'rel="prev" href="03_features.html"' in html
    assert 'rel="next" href="05_evaluation.html"' in html
    assert 'rel="prev"' not in render(folder, [], neighbours=pages[1:]).read_text()


@pytest.mark.slow
def test_the_index_shows_every_stage(tmp_path, visit):
    folder = tmp_path / "diabetes"
    folder.mkdir()
    for name, more in {
        "00_source": {"headline": "442 rows", "html": None},
        "10_deploy": {"status": "failed", "headline": "", "html": "missing.html"},
        "02_training": {"headline": "mae 44.1", "html": "02_training.html", "title": "Which model?"},
    }.items():
        row = {
            "stage": name[3:],
            "page": name,
            "title": name[3:].capitalize(),
            "status": "finished",
            "seconds": 65,
            "run_id": "x",
            "run": "diabetes-0123abcd",
        }
        (folder / f"{name}.json").write_text(json.dumps({**row, "started": "2026-11-24T10:11:12+00:00", **more}))
    (folder / "11_torn.json").write_text('{"stage": "to')
    (folder / "02_training.html").write_text("x")
    render_page(folder / "model_card.html", title="Model card", markdown="# Model card\n\nSmall.")
    (folder / "publish.json").write_text(
        json.dumps(
            {"decision": "kept champion", "reasons": ["worse than version 2"], "version": None, "headline": "mae 44.1"}
        )
    )
    page, complaints = visit(render_index(tmp_path))
    assert complaints == []
    assert page.locator("tbody th").all_inner_texts() == ["source", "training\nWhich model?", "deploy", "torn"]
    assert page.locator("tbody .mark").all_inner_texts() == ["✓ finished", "✓ finished", "✕ failed", "✕ failed"]
    assert "11_torn.json is damaged: labkit run diabetes --force torn" in page.locator("tbody").inner_text()
    assert page.locator("tbody tr").nth(1).inner_text().split("\t")[1:] == [
        "mae 44.1",
        "✓ finished",
        "2026-11-24 10:11 UTC\n0123abcd",
        "1 min 05 s",
    ]
    links = [link.get_attribute("href") for link in page.locator(".card a").all()]
    assert links == ["diabetes/02_training.html", "diabetes/model_card.html"]
    assert "kept champion" in page.locator(".decision").inner_text()
    assert "worse than version 2" in page.locator(".decision").inner_text()
    assert "diabetes: deploy failed" in page.locator(".lead").inner_text()


def test_the_index_begins_with_what_needs_attention(tmp_path):
    check = {"section": "a", "evidence": "b", "title": "c", "code": "LK506"}
    for name, decision, status, checks in (
        ("a", "published", "finished", []),
        ("b", "published", "finished", ["warning", "passed"]),
        ("c", "already champion", "finished", ["warning", "warning"]),
        ("d", "published", "cached", ["issue"]),
        ("e", "refused", "finished", []),
        ("f", None, "finished", []),
        ("g", "published", "failed", []),
    ):
        save_record(make_record("training", "04_training", status=status), tmp_path / name)
        content = {"decision": decision, "scorecard": {"checks": [check | {"status": one} for one in checks]}}
        if decision:
            (tmp_path / name / "publish.json").write_text(json.dumps(content))
    html = render_index(tmp_path).read_text()
    assert re.findall(r'<h2 id="(.)">', html) == ["g", "e", "f", "d", "c", "b", "a"]
    assert "Those that need attention stand first" in html


@pytest.mark.parametrize(
    ("printed", "is_reached"), [("x" * 60, True), ("x\n" * 30, True), ("short", False), ("", False)]
)
def test_printed_text_that_scrolls_on_a_phone_is_reached_by_the_keyboard(tmp_path, printed, is_reached):
    cells = [new_code_cell("1", execution_count=1, outputs=[new_output("stream", text=printed)])]
    assert ('<pre class="text stdout" tabindex="0">' in render(tmp_path, cells).read_text()) == is_reached


@pytest.mark.parametrize(
    ("source", "is_reached"),
    [("x" * 60, True), ("y = 1\n" * 30 + "x" * 31, True), ("x" * 30, False)],
    ids=["wide", "wide below", "narrow"],
)
def test_code_that_scrolls_on_a_phone_is_reached_by_the_keyboard(tmp_path, source, is_reached):
    shown = render(tmp_path, [new_code_cell(source, execution_count=1)]).read_text()
    assert ('<pre class="source" tabindex="0">' in shown) == is_reached
    assert shown.count('<pre class="source"') == 1


def test_an_empty_index_explains_what_to_do(tmp_path):
    assert "labkit run &lt;experiment&gt;" in render_index(tmp_path / "reports").read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"nbformat": 4}', "\x00"])
def test_a_notebook_that_cannot_be_read_leaves_the_page_alone(content, tmp_path):
    executed, html = tmp_path / "x.ipynb", tmp_path / "x.html"
    executed.write_text(content)
    html.write_text("before")
    with pytest.raises(StageError, match=r"x\.ipynb: no report"):
        render_report(executed, html, make_header())
    assert html.read_text() == "before"


def test_the_index_shows_what_the_closing_table_knows_of_each_stage(tmp_path):
    record = StageRecord("source", "00_source", "Source", "finished", "2026-11-24T10:11:12+00:00", 1.5, "9 rows", None)
    save_record(record, tmp_path)
    (tmp_path / "04_training.json").write_text('{"stage": "train')
    shown = [{key: row[key] for key in asdict(record)} for row in load_experiment(tmp_path)["stages"]]
    assert shown == [asdict(known) for known in load_records(tmp_path).values()]
    assert [row["status"] for row in shown] == ["finished", "failed"]


def make_record(stage: str, page: str, **changes: object) -> StageRecord:
    known = {
        "status": "finished",
        "started": "2026-11-24T10:11:12+00:00",
        "seconds": 1.5,
        "headline": "",
        "run_id": None,
    }
    return StageRecord(**{"stage": stage, "page": page, "title": stage, "html": f"{page}.html", **known, **changes})


@pytest.mark.slow
def test_the_index_shows_result_costs_and_checks_that_need_attention(tmp_path, visit):
    folder = tmp_path / "flights"
    for stage, page in (("training", "04_training"), ("evaluation", "05_evaluation")):
        save_record(make_record(stage, page), folder)
        (folder / f"{page}.html").write_text("x")
    (folder / "publish.html").write_text("x")
    check = {"section": "How good it is", "evidence": "0.68 <b>here</b>", "remedy": "", "consequence": ""}
    checks = [
        {"code": "LK506", "status": "warning", "title": "Holdout against cross-validation", **check},
        {"code": "LK405", "status": "passed", "title": "Candidate against dummy", **check},
        {"code": "LK603", "status": "issue", "title": "Gain over the champion", **check},
        {"code": "LK000"},
    ]
    scorecard = {
        "question": "Will `late` be 1?",
        "result": "holdout roc_auc 0.682 [0.629, 0.731]",
        "measured_on": "55,627 holdout flights",
        "baselines": "dummy (best constant prediction) 0.5",
        "costs": "Acting on it costs 0.49 per flight.",
        "checks": checks,
        "counts": "1 issue, 1 warning, 1 passed",
        "metric": "roc_auc",
        "meaning": "ranks <b>well</b>",
        "unit": "",
        "is_greater_better": True,
        "versions": [
            {"version": 1, "quality": "of an earlier version of labkit"},
            {"version": 2, "value": 0.67, "low": 0.62, "high": None},
            {"version": 3, "value": 0.682, "low": 0.629, "high": 0.731},
        ],
        "since": {"run": "flights-1", "started": "2026-11-24T10:11:12+00:00", "facts": [["data", "the <same>"]]},
    }
    decision = {
        "decision": "published",
        "reasons": ["good"],
        "version": 2,
        "headline": "version 2",
        "scorecard": scorecard,
    }
    (folder / "publish.json").write_text(json.dumps(decision))
    page, complaints = visit(render_index(tmp_path))
    assert complaints == []
    shown = page.locator(".card").inner_text()
    for sentence in (scorecard["result"], "roc_auc: ranks <b>well</b>.", scorecard["costs"], scorecard["counts"]):
        assert sentence in shown
    assert "Since the last run (2026-11-24 10:11 UTC, flights-1): data: the <same>" in " ".join(shown.split())
    plot = page.locator(".card figure")
    assert plot.locator("circle").count() == 2
    assert plot.locator("svg[role=img] .span").count() == 1, "only one has both ends of its interval"
    assert [cell.split() for cell in plot.locator("tbody tr").all_text_contents()] == [
        ["holdoutv20.670.62–"],
        ["holdoutv30.6820.6290.731"],
    ]
    assert page.locator(".asked code").inner_text() == "late"
    assert page.locator(".checks li").all_inner_texts() == [
        "⚠ warning LK506 Holdout against cross-validation: 0.68 <b>here</b>.",
        "✕ issue LK603 Gain over the champion: 0.68 <b>here</b>.",
    ]
    assert [link.get_attribute("href") for link in page.locator(".decision a").all()] == [
        "flights/publish.html",
        "flights/05_evaluation.html#How-good-it-is",
        "flights/publish.html",
    ]


def test_stages_after_a_failure_are_of_an_earlier_run(tmp_path):
    for stage, page, status in (
        ("eda", "01_eda", "finished"),
        ("wrangling", "02_wrangling", "failed"),
        ("features", "03_features", "finished"),
    ):
        save_record(make_record(stage, page, status=status), tmp_path / "a")
    assert [row["is_stale"] for row in load_experiment(tmp_path / "a")["stages"]] == [False, False, True]
    html = render_index(tmp_path).read_text()
    assert html.count("earlier run") == 1
    assert html.count('<tr class="stale">') == 1


def test_page_begins_with_the_question_and_ends_with_parameters_and_run(tmp_path):
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell(
            "import labkit",
            execution_count=1,
            metadata={"tags": ["appendix"]},
            outputs=[new_output("display_data", {"text/markdown": "- the finding"})],
        ),
        new_markdown_cell("## The rows"),
    ]
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    header = make_header(question="Will `late` be 1?", run_id="f" * 32, parameters=[("eda.most", 3, "default")])
    render_report(path, tmp_path / "a.html", header)
    html = (tmp_path / "a.html").read_text()
    body = html[html.index("<main") :]
    order = [
        "Will <code>late</code> be 1?",
        "the finding",
        "The rows",
        ">Appendix<",
        "f" * 32,
        "eda.<wbr>most",
        "import",
    ]
    assert [body.index(part) for part in order] == sorted(body.index(part) for part in order)
