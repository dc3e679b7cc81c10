"""A notebook opened, run and clicked in a real JupyterLab, in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import make_environment
from tests.servers import find_free_port, serve

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


@pytest.mark.xdist_group("pipeline")
def test_column_explorer_is_clicked(root: Path, browser: Browser) -> None:
    port = find_free_port()
    address = f"http://127.0.0.1:{port}"
    environment = make_environment(root)
    command = ["jupyter", "lab", "--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--port={port}"]
    options = [f"--IdentityProvider.token={TOKEN}", "--ServerApp.port_retries=0", f"--notebook-dir={root}"]
    with serve([*command, *options], folder=root, environment=environment, address=f"{address}/api"):
        page = open_notebook(browser, address, "01_eda.ipynb")
        chooser = page.locator(".jp-OutputArea-output .widget-dropdown select")
        chooser.wait_for(timeout=3 * MINUTE)
        names = [text.split()[0] for text in chooser.locator("option").all_inner_texts()]
        assert len(names) == 10
        picture = page.locator(".widget-html img")
        before = picture.get_attribute("src")
        chooser.select_option(index=3)
        expect(picture).not_to_have_attribute("src", before or "", timeout=MINUTE)
        expect(page.locator(".widget-html caption")).to_have_text(f"{names[3]} in figures", timeout=MINUTE)
        page.locator("button[title='Next column']").click()
        expect(page.locator(".widget-html caption")).to_have_text(f"{names[4]} in figures", timeout=MINUTE)
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        page.close()
