"""A notebook opened, run and clicked in a real JupyterLab, in a real browser."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import ROOT, call_labkit, make_environment
from tests.run.kernels.warm_kernels import wait_until
from tests.servers import find_free_port, serve
from tests.shared_server import SharedServer

pytestmark = pytest.mark.slow

TOKEN = "only-for-this-test"
MINUTE = 60_000


def open_notebook(browser: Browser, address: str, name: str) -> Page:
    """Open a notebook in JupyterLab and run all of its cells."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{address}/lab/tree/notebooks/{name}?token={TOKEN}&reset", timeout=2 * MINUTE)
    page.locator(".jp-Notebook").wait_for(timeout=2 * MINUTE)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=2 * MINUTE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return page


@pytest.fixture
def without_server(root: Path, shared_server: SharedServer) -> Iterator[None]:
    """Leave the checkout without a server of kernels, so that the test can start and stop its own."""
    with shared_server.withhold(root):
        yield


@contextmanager
def serve_lab(root: Path) -> Iterator[str]:
    """Serve JupyterLab on a checkout as `make lab` does, and yield its address."""
    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    variables, command = read_make_lab(root)
    environment = {**make_environment(root), **variables}
    options = ["--allow-root", "--no-browser", f"--port={port}"]
    options += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.port_retries=0"]
    with serve([*command, *options], folder=root, environment=environment, address=f"{address}/api"):
        yield address


def read_make_lab(root: Path) -> tuple[dict[str, str], list[str]]:
    """Return the variables and the command of `make lab` for a checkout."""
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=install", "lab", f"CURDIR={root}"]
    # `make test` passes on its own flags.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    words = shlex.split(printed.replace("\\\n", " ").partition("labkit warm &")[2])
    start = words.index("jupyter")
    return dict(word.split("=", 1) for word in words[:start]), words[start:]


def run_cell(page: Page, code: str) -> str:
    """Put code into the notebook's first code cell, run it and return what it printed."""
    cell = page.locator(".jp-CodeCell").first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")
    output = cell.locator(".jp-OutputArea-output pre")
    expect(output).to_contain_text("pid", timeout=MINUTE)
    return output.inner_text()


@pytest.mark.xdist_group("pipeline")
def test_notebook_runs_and_restarts_on_a_warm_kernel(root: Path, browser: Browser, without_server: None) -> None:
    asked = "import os, sys; print('pid', os.getpid(), 'pandas' in sys.modules, 'kept' in globals()); kept = 1"
    started = call_labkit(root, "warm")
    assert started.returncode == 0, started.stderr
    server = psutil.Process(int(re.findall(r"process (\d+)", started.stdout)[0]))
    try:
        with serve_lab(root) as address:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"{address}/lab/tree/notebooks/01_eda.ipynb?token={TOKEN}&reset", timeout=2 * MINUTE)
            page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=2 * MINUTE)
            _, first, is_warm, is_kept = run_cell(page, asked).split()
            assert (is_warm, is_kept) == ("True", "False")
            kernels = [kernel.pid for keeper in server.children() for kernel in keeper.children()]
            assert kernels == [int(first)]
            page.get_by_role("menuitem", name="Kernel", exact=True).click()
            page.locator(".lm-Menu-item[data-command='kernelmenu:restart']").click()
            page.locator(".jp-Dialog button.jp-mod-accept").click()
            wait_until(lambda: not psutil.pid_exists(int(first)))
            page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=MINUTE)
            _, second, is_warm, is_kept = run_cell(page, asked).split()
            assert (is_warm, is_kept) == ("True", "False")
            assert second != first
            page.close()
        wait_until(lambda: server.children() == [])
    finally:
        stopped = call_labkit(root, "warm", "--stop")
    assert stopped.stdout == "stopped\n"
    wait_until(lambda: not server.is_running())


@pytest.mark.xdist_group("pipeline")
def test_column_explorer_is_clicked(root: Path, browser: Browser) -> None:
    with serve_lab(root) as address:
        page = open_notebook(browser, address, "01_eda.ipynb")
        chooser = page.locator(".jp-OutputArea-output .widget-dropdown select")
        chooser.wait_for(timeout=3 * MINUTE)
        names = [option.split()[0] for option in chooser.locator("option").all_inner_texts()]
        assert len(names) == 10
        picture = page.locator(".widget-html img")
        before = picture.get_attribute("src")
        chooser.select_option(index=3)
        expect(picture).not_to_have_attribute("src", before or "", timeout=MINUTE)
        expect(page.locator(".widget-html caption")).to_have_text(f"{names[3]} in numbers", timeout=MINUTE)
        page.locator("button[title='Next column']").click()
        expect(page.locator(".widget-html caption")).to_have_text(f"{names[4]} in numbers", timeout=MINUTE)
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        page.close()


@pytest.mark.xdist_group("pipeline")
def test_error_explorer_is_clicked(root: Path, browser: Browser) -> None:
    # An earlier test may have left other params, or a sample, which takes precedence by hand.
    shutil.copy(ROOT / "params/diabetes.yaml", root / "params/diabetes.yaml")
    shutil.rmtree(root / "data/diabetes/scratch", ignore_errors=True)
    assert call_labkit(root, "run", "diabetes", "--until", "evaluation").returncode == 0
    with serve_lab(root) as address:
        page = open_notebook(browser, address, "05_evaluation.ipynb")
        columns = page.locator(".widget-dropdown", has_text="Groups of").locator("select")
        columns.wait_for(timeout=3 * MINUTE)
        result, rows = (page.locator(".widget-html", has_text=words) for words in ("measured on", "row"))
        expect(result).to_contain_text("(plain LightGBM), measured on the same", timeout=MINUTE)
        columns.select_option("sex")
        groups = page.locator(".widget-select", has_text="Rows of").locator("select")
        expect(groups.locator("option")).to_have_text([re.compile(r"sex\s=\s\d")] * 2, timeout=MINUTE)
        for place in (1, 0):
            # JupyterLab writes spaces in lists as such that do not break.
            group = groups.locator("option").nth(place).inner_text().replace("\xa0", " ").partition(" · ")[0]
            groups.select_option(index=place)
            expect(rows.last).to_contain_text(f"{group}: 10 of ", timeout=MINUTE)
            expect(rows.last.locator("tbody tr")).to_have_count(10)
        choose(page, "Error", "squared error")
        expect(result).to_contain_text("Mean squared error: ", timeout=MINUTE)
        choose(page, "against", "model")
        expect(page.get_by_role("status").filter(has_text="Both sides are the same")).to_be_visible(timeout=MINUTE)
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        page.close()


def click(page: Page, label: str) -> None:
    """Press one of the board's buttons."""
    page.locator("button.jupyter-button", has_text=label).click()


def choose(page: Page, label: str, option: str) -> None:
    """Choose in one of the board's lists."""
    page.locator(".widget-dropdown", has_text=label).locator("select").select_option(option)


@pytest.mark.xdist_group("pipeline")
def test_board_runs_stops_and_changes_parameters(root: Path, browser: Browser) -> None:
    params = root / "params" / "diabetes.yaml"
    before = params.read_text()
    # The latest runs are listed: one of them has a metric, whatever other tests ran before.
    evaluated = call_labkit(root, "run", "diabetes", "--until", "evaluation", "--force", "evaluation")
    assert evaluated.returncode == 0, evaluated.stderr
    try:
        with serve_lab(root) as address:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"{address}/?token={TOKEN}", timeout=2 * MINUTE)
            assert "/lab/tree/notebooks/00_board.ipynb" in page.url
            # Without the notebooks that an earlier test left open.
            page.goto(f"{page.url.partition('?')[0]}?reset", timeout=2 * MINUTE)
            page.locator(".jp-Notebook").wait_for(timeout=2 * MINUTE)
            page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=2 * MINUTE)
            assert page.locator(".jp-Dialog, .jp-toastContainer .Toastify__toast").count() == 0
            expect(page.locator(".jp-BreadCrumbs")).to_contain_text("notebooks")
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            page.locator(".widget-dropdown", has_text="Experiment").wait_for(timeout=2 * MINUTE)
            choose(page, "Experiment", "breast_cancer")
            expect(page.locator(".jp-OutputArea-output table").first).to_contain_text("never run", timeout=MINUTE)
            choose(page, "Experiment", "diabetes")
            board = page.locator(".jp-OutputArea-output table").first
            expect(board).to_contain_text("checked each time", timeout=MINUTE)
            expect(board.get_by_role("link", name="open page").first).to_have_attribute(
                "href", re.compile("/files/reports/diabetes/")
            )
            board.get_by_role("link", name="open page").first.click()
            expect(page).to_have_url(re.compile("/lab/tree/reports/diabetes/01_eda.html"), timeout=MINUTE)
            expect(page.frame_locator("iframe").locator("h1")).to_be_visible(timeout=MINUTE)
            page.get_by_role("tab", name="00_board.ipynb").click()

            page.get_by_role("tab", name="Parameters").click()
            choose(page, "Section", "eda")
            expect(page.get_by_text("eda.most_columns")).to_be_visible(timeout=MINUTE)
            field = page.locator(".widget-text input").first
            field.fill("500")
            field.press("Enter")
            message = page.get_by_role("status").filter(has_text="eda.most_columns")
            expect(message).to_contain_text("eda.most_columns is 500: write 50 or less", timeout=MINUTE)
            field.fill("11")
            field.press("Enter")
            expect(page.get_by_text("+  most_columns: 11")).to_be_visible(timeout=MINUTE)
            page.get_by_role("tab", name="Pipeline").click()
            expect(board).to_contain_text("params eda.most_columns changed", timeout=MINUTE)

            choose(page, "Run", "eda")
            click(page, "Run")
            expect(page.get_by_role("log")).to_contain_text("cell ", timeout=2 * MINUTE)
            click(page, "Stop")
            expect(page.get_by_text("stopped; finished stages are kept").first).to_be_visible(timeout=MINUTE)
            expect(board).to_contain_text("interrupted")
            click(page, "Run")
            ending = "labkit run diabetes --no-wait --until eda --force eda: finished"
            expect(page.get_by_text(ending)).to_be_visible(timeout=3 * MINUTE)
            expect(board).not_to_contain_text("interrupted")

            page.get_by_role("tab", name="Runs").click()
            expect(page.locator(".widget-html", has_text="on the holdout")).to_contain_text("mae ", timeout=MINUTE)
            page.close()
    finally:
        params.write_text(before)
        # Other tests use this checkout too.
        restored = call_labkit(root, "run", "diabetes", "--until", "eda")
    assert restored.returncode == 0, restored.stderr


@pytest.mark.xdist_group("pipeline")
def test_rows_are_labelled_by_keyboard(root: Path, browser: Browser) -> None:
    """Twenty answers, each on disk before the next row shows; no key reaches the notebook."""
    table, stored = root / "labelling.csv", root / "data" / "labels" / "diabetes" / "ana.jsonl"
    notebook = json.loads((root / "notebooks" / "08_labelling.ipynb").read_text())
    [cell] = [cell for cell in notebook["cells"] if cell["id"] == "parameters"]
    given = {"experiment": "diabetes", "table": table.name, "key": "id", "choices": ["yes", "no"], "annotator": "ana"}
    cell["source"] = [*cell["source"], "\n", *(f"{name} = {value!r}\n" for name, value in given.items()), "n_rows = 20"]
    copy = root / "notebooks" / "to_label.ipynb"
    try:
        table.write_text("id,review\n" + "".join(f"k{number},text {number}\n" for number in range(30)))
        copy.write_text(json.dumps(notebook))
        with serve_lab(root) as address:
            page = open_notebook(browser, address, copy.name)
            box = page.locator(".labkit-labelling")
            box.wait_for(timeout=3 * MINUTE)
            n_cells = page.locator(".jp-Cell").count()
            box.focus()
            for key in "abxddm":
                page.keyboard.press(key)
            expect(box).to_contain_text("0 of 20 done")
            for number in range(20):
                before = box.get_attribute("data-key")
                page.keyboard.press("12"[number % 2])
                expect(box).not_to_have_attribute("data-key", before or "", timeout=MINUTE)
                assert len(stored.read_text().splitlines()) == number + 1
            expect(box).to_contain_text("The queue is done.")
            assert page.locator(".jp-Cell").count() == n_cells
            page.close()
        lines = [json.loads(line) for line in stored.read_text().splitlines()]
        assert [line["label"] for line in lines] == ["yes", "no"] * 10
        assert len({line["key"] for line in lines}) == 20
    finally:
        for path in (table, copy, stored):
            path.unlink(missing_ok=True)
