"""Plots on a page in a real browser: light and dark, desktop and phone, with names that attack."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.run.reports import render
from labkit.run.reports.sanitize import Outline
from labkit.view import style, svg
from PIL import Image
from playwright.sync_api import Page

from tests.run.reports.attacks import PAYLOAD

pytestmark = pytest.mark.slow
Visit = Callable[..., tuple[Page, list[str]]]
SHEET = render.TEMPLATES_DIR / "labkit" / "style.css"
NAMES = [PAYLOAD, "a\x01b\x1b[31m", "]]></style><script>alert(1)</script>", "&lt;&#x41;", "名前"]


def write_plot(folder: Path) -> Path:
    """Write a page with a plot whose title, names and unit are hostile."""
    bars = dict.fromkeys(NAMES, 1.0) | {"plain": 3.0}
    figure = style.plot_bars(bars, title=PAYLOAD, fact=PAYLOAD, unit=PAYLOAD)
    body = Outline("Plots").clean(style.render_figure(figure))
    page = folder / "page.html"
    head = '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Plots</title>'
    written = f'{head}<style>{SHEET.read_text()}</style><main class="sheet"><div class="html">{body}</div></main>'
    page.write_text(written, encoding="utf-8")
    return page


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize(("scheme", "theme"), [("light", svg.LIGHT), ("dark", svg.DARK)])
def test_plot_follows_the_reader_and_runs_nothing(
    scheme: str, theme: dict[str, str], width: int, tmp_path: Path, visit: Visit
) -> None:
    settings: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    page, problems = visit(write_plot(tmp_path), **settings)
    image = page.locator("figure img")
    assert image.evaluate("image => image.naturalWidth") > 0, "the SVG is well-formed"
    assert page.locator("script, svg, [onload], [onerror]").count() == 0
    assert problems == []
    pixels = np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("RGB")).astype(int)
    ground = [int(theme[style.GROUND][place : place + 2], 16) for place in (1, 3, 5)]
    assert np.abs(pixels[2, 2] - ground).max() <= 2
    furthest = np.abs(pixels - ground).sum(axis=2).max()
    assert furthest > 400, "its text is drawn in the colour of the scheme"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figcaption").inner_text().count("script") >= 1, "the names are shown as text"


def test_text_of_a_plot_can_be_read_on_a_phone(tmp_path: Path, visit: Visit) -> None:
    page, _ = visit(write_plot(tmp_path), viewport={"width": 390, "height": 900})
    shown = page.locator("figure img").evaluate("image => image.getBoundingClientRect().width")
    drawn = style.save_svg(style.plot_bars({"a": 1}, title="t", fact="f", unit="kg"))
    sizes = [float(size) for size in re.findall(r"font-size: ?([\d.]+)px", drawn)]
    assert min(*sizes, 9.5) * shown / (72 * style.WIDTH_INCHES) >= 9
    box = page.locator("figure > .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth"), "the rest is reached by scrolling"
    assert box.get_attribute("tabindex") == "0"


def test_plot_cannot_run_even_when_its_svg_is_opened_by_itself(tmp_path: Path, visit: Visit) -> None:
    figure = style.plot_bars(dict.fromkeys(NAMES, 1.0), title="t", fact="f", unit=PAYLOAD)
    drawn = style.save_svg(figure)
    (tmp_path / "plot.svg").write_text(drawn, encoding="utf-8")
    page, problems = visit(tmp_path / "plot.svg")
    assert page.evaluate("document.querySelectorAll('script, parsererror, [onload], [onerror], image, a').length") == 0
    assert problems == []
