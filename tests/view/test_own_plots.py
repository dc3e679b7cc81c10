"""Plots of the user's own: drawn like labkit's, and what cannot be drawn is an issue with file and line."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from labkit.checks import CheckResult
from labkit.data.column_references import check_columns
from labkit.errors import ParamsError
from labkit.model.evaluation.predictions import Predictions
from labkit.model.release.release_code import remove_modules
from labkit.params.experiment import Params
from labkit.params.load import parse_file
from labkit.params.own_plots import OFFERED_TO_PLOTS, load_function
from labkit.params.section import find_own_code
from labkit.run.pipeline.experiment_run import check_own_code
from labkit.view import own_plots
from labkit.view.own_plots import show_plots
from matplotlib.figure import Figure

from tests.conftest import ROOT
from tests.own_library import open_library

DOCS = (ROOT / "docs" / "own-metrics.md").read_text()
[PLOTS] = re.findall(r"```python\n(# lib/churn/plots.py\n.*?)```", DOCS, re.DOTALL)
[CELL] = re.findall(r"```python\n(from labkit.view.own_plots .*?)```", DOCS, re.DOTALL)
ROWS = pd.DataFrame({"region": ["north", "south"] * 30, "y": np.arange(60) % 2})
PROBA = np.column_stack([1 - ROWS["y"] * 0.6, ROWS["y"] * 0.6])
TWO = Predictions(ROWS["y"].to_numpy(), ROWS["y"].to_numpy(), PROBA, ("no", "yes"), positive=1)
DRAW = "from matplotlib.figure import Figure\nfigure = Figure()\nfigure.subplots().plot([1, 2])\n"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the package `churn` in an empty checkout, with the plot of the docs."""
    with open_library(tmp_path, monkeypatch, "churn") as folder:
        (folder / "plots.py").write_text(PLOTS)
        yield folder


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the HTML of everything that is displayed."""
    pages: list[str] = []
    for module in ("labkit.view.own_plots", "labkit.view.style"):
        monkeypatch.setattr(f"{module}.display", lambda page, **_: pages.append(page.data))
    return pages


def read_svg(page: str) -> str:
    return base64.b64decode(page.partition("base64,")[2].partition('"')[0]).decode()


def parse_params(section: str) -> Params:
    path = ROOT / "params" / "diabetes.yaml"
    return parse_file(path.read_text().replace("evaluation:\n", section), path).params


def test_plot_of_the_docs_has_caption_alt_text_and_the_colours_of_the_reader(library: Path, shown: list[str]) -> None:
    [result] = show_plots(["churn.plots:profit_curve"], TWO, ROWS)
    assert (result.code, result.status, result.evidence) == ("LK510", "passed", "1 plot drawn")
    [page] = shown
    assert "<strong>Profit by threshold</strong><br>Highest with a threshold of 0.01: 40.00 EUR per customer." in page
    assert 'alt="Line plot: profit rises with the threshold, then falls." width="700" height="300"' in page
    svg = read_svg(page)
    assert "prefers-color-scheme:dark" in svg
    assert "EUR per customer" in svg
    assert "#000000" not in svg
    assert plt.get_fignums() == [], "an open figure would be displayed once more"
    assert show_plots([], TWO, ROWS) == []


def test_figure_of_a_cell_follows_the_reader_whatever_its_style(shown: list[str]) -> None:
    exec(CELL, {})
    [page] = shown
    assert "<strong>Customers by region</strong><br>The south has few customers." in page
    assert 'alt="Bar chart: north 30, south 4." width="640" height="480"' in page
    svg = read_svg(page)
    assert "fill:var(--c0)" in svg
    assert not re.search("#000000|#ffffff", svg.partition("</style>")[2]), "black and white would not follow"
    figure = Figure(figsize=(14, 7))
    figure.subplots().plot([1, 2])
    own_plots.show_plot(figure, "Which?", "The first.", table=pd.DataFrame({"a": [1]}))
    assert 'alt="Plot: Which? The first." width="700" height="350"' in shown[1]
    assert "<summary>Data (1 line)</summary>" in shown[1]


@pytest.mark.parametrize(
    ("source", "evidence"),
    [
        ("def mine(rows):\n    return rows['regoin']\n", "churn.mine:mine: KeyError: 'regoin', at lib/churn/mine.py:2"),
        ("def mine(y_true):\n    return None\n", "churn.mine:mine: lib/churn/mine.py:1: returns NoneType: return a Matplotlib figure"),
        ("def mine():\n    return 1, 2, 3, 4\n", "lib/churn/mine.py:1: returns (int, int, int, int): return a"),
        (DRAW + "def mine():\n    return figure, 3\n", "lib/churn/mine.py:4: returns (Figure, int): return a"),
        (DRAW + "def mine():\n    return Figure()\n", "lib/churn/mine.py:4: returns a figure without axes: draw on"),
        ("def mine(y_true):\n    y_true[0] = 1\n", "churn.mine:mine: ValueError: assignment destination is read-only, at lib/churn/mine.py:2"),
        ("def mine(table):\n    return 1\n", "lib/churn/mine.py:1: it needs the argument 'table': take any of rows, y_true"),
        ("\n1 / 0\n", "lib/churn/mine.py:2: ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_plot_that_cannot_be_drawn_is_an_issue_and_says_so_in_its_place(
    library: Path, shown: list[str], source: str, evidence: str
) -> None:
    (library / "mine.py").write_text(source)
    before = ROWS.copy()
    [result] = show_plots(["churn.mine:mine", "churn.plots:profit_curve"], TWO, ROWS)
    assert result.status == "issue"
    assert evidence in result.evidence
    assert CheckResult.from_dict(result.to_dict()) == result
    failed, drawn = shown
    assert "<strong>Mine</strong><br>Not drawn: " in failed
    assert "Profit by threshold" in drawn, "the other plots are drawn"
    assert ROWS.equals(before)


def test_drawing_too_large_for_a_page_is_refused_with_the_remedy(
    library: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_plots, "MOST_BYTES", 1000)
    [result] = show_plots(["churn.plots:profit_curve"], TWO, ROWS)
    assert "lib/churn/plots.py:7: draws 0.0 MB, more than 0 MB: pass rasterized=True to what" in result.evidence


def test_axes_plots_of_labkit_and_tables_are_accepted(library: Path, shown: list[str]) -> None:
    (library / "mine.py").write_text(
        "from labkit.view.style import plot_bars\n" + DRAW + "def axes():\n    return figure.axes[0]\n"
        "def bars(rows):\n    counts = rows['region'].value_counts()\n"
        "    return plot_bars(counts.to_dict(), title='Rows', fact='As many.', unit='rows')\n"
        "def given(threshold):\n    return figure, f'at {threshold}'\n"
    )
    [result] = show_plots([f"churn.mine:{name}" for name in ("axes", "bars", "given")], TWO, ROWS, threshold=0.2)
    assert (result.status, result.evidence) == ("passed", "3 plots drawn")
    assert "<strong>Bars</strong><br>As many." in shown[1]
    assert "<summary>Data (2 lines)</summary>" in shown[1], "as labkit's own plots have it"
    assert "<br>at 0.2" in shown[2]


def test_plots_are_checked_before_a_kernel_starts_and_part_of_the_evaluations_fingerprint(library: Path) -> None:
    params = parse_params('evaluation:\n  plots: ["churn.plots:profit_curve"]\n')
    (library.parents[1] / "params" / "diabetes.yaml").write_text((ROOT / "params" / "diabetes.yaml").read_text())
    [code] = [one for one in find_own_code(params) if one.keys[0] == "evaluation"]
    assert (code.keys, code.stages) == (("evaluation", "plots", 0), ("evaluation",))
    check_own_code(params)
    (library / "plots.py").write_text("def profit_curve(rows, table): ...\n")
    remove_modules(["churn"])
    with pytest.raises(
        ParamsError, match=r"evaluation.plots.*: churn.plots:profit_curve: lib/churn/plots.py:1: it needs"
    ):
        check_own_code(params)
    with pytest.raises(ParamsError, match="has no 'profit_curv': did you mean 'profit_curve'"):
        load_function("churn.plots:profit_curv", where="evaluation.plots.0", offered=OFFERED_TO_PLOTS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def mine(rows):\n    return rows['bmi'].min() > rows['bmj'].min(), 'x'\n", "lib/churn/mine.py:2: no column 'bmj': did you mean 'bmi'"),
        ("def mine(rows):\n    x = 1\n    return rows[['age', 'agee']]\n", "lib/churn/mine.py:3: no column 'agee'"),
        ("def mine(rows):\n    rows['new'] = rows['age']\n    return rows['new']\n", ""),
        ("def mine(rows):\n    rows = rows.assign(new=1)\n    return rows['new']\n", ""),
        ("def mine(rows):\n    return rows['new'] if 'new' in rows else None\n", ""),
        ("def mine(rows):\n    return (lambda rows: rows['new'])(rows)\n", ""),
        ("def mine(rows):\n    return rows[rows['age'] > 3], rows['target']\n", ""),
        ("mine = eval('lambda rows: rows[\"bmj\"]')\n", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("section", "place"), [("checks: {OWN01: %s}", "checks.OWN01"), ("plots: [%s]", "plots.0")])
def test_columns_that_a_function_names_are_checked_with_the_params(
    library: Path, source: str, message: str, section: str, place: str
) -> None:
    (library / "mine.py").write_text(source)
    named = section % '"churn.mine:mine"'
    params = parse_params(f"evaluation:\n  {named}\n")
    tables = {"patients": pd.DataFrame(columns=["age", "sex", "bmi", "bp", *(f"s{n}" for n in range(1, 7)), "target"])}
    if not message:
        check_columns(params, tables)
        return
    with pytest.raises(ParamsError, match=re.escape(f"evaluation.{place}: churn.mine:mine: {message}")):
        check_columns(params, tables)
