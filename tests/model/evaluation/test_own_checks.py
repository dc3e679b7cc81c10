"""Checks of the user's own: results like labkit's, and what cannot be run is an issue with file and line."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.checks import CheckResult, mute
from labkit.errors import ParamsError
from labkit.model.evaluation.own_checks import run_checks
from labkit.model.evaluation.predictions import Predictions
from labkit.params.load import parse_file
from labkit.view.summary import render_checks

from tests.own_library import open_library

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "own-metrics.md").read_text()
BLOCKS = re.findall(r"```python\n(# lib/churn/checks.py\n.*?)```", DOCS, re.DOTALL)
ROWS = pd.DataFrame({"region": ["north"] * 30 + ["south"] * 4, "y": np.arange(34.0)})
EXACT = Predictions(ROWS["y"].to_numpy(), ROWS["y"].to_numpy() + 1.0)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the package `churn` in the lib folder of an empty checkout, with the check of the docs."""
    with open_library(tmp_path, monkeypatch, "churn") as folder:
        (folder / "checks.py").write_text(BLOCKS[0])
        yield folder


def test_check_of_the_docs_is_shown_stored_and_muted_like_labkits(library: Path) -> None:
    [result] = run_checks({"OWN01": "churn.checks:rows_per_region"}, EXACT, ROWS)
    assert (result.code, result.status) == ("OWN01", "warning")
    assert result.evidence == "the smallest region, south, has 4 holdout rows"
    assert (result.title, result.remedy) == ("Rows per region", "Collect more rows, or merge regions.")
    page = render_checks([result])
    assert "OWN01" in page
    assert "Rows per region" in page
    assert CheckResult.from_dict(result.to_dict()) == result, "as publish and the index read it"
    [muted] = mute([result], {"OWN01": "south opens next year"})
    assert (muted.status, muted.title) == ("muted", "Rows per region")
    assert muted.evidence.endswith("; muted: south opens next year")
    [passed] = run_checks({"OWN01": "churn.checks:rows_per_region"}, EXACT, ROWS.assign(region="north"))
    assert passed.status == "passed"


@pytest.mark.parametrize(
    ("source", "status", "evidence"),
    [
        ("def mine(y_true, y_pred):\n    return bool((y_pred > y_true).all()), 'never too low.'\n", "passed", "never too low"),
        ("def mine():\n    return None, 'no regions'\n", "not applicable", "no regions"),
        ("def mine(rows):\n    return rows['regoin'].empty, 'x'\n", "issue", "it failed: KeyError: 'regoin', at lib/churn/mine.py:2"),
        ("def mine(rows):\n    return False\n", "issue", "it returned False: return whether it passed and the evidence, at lib/churn/mine.py:1"),
        ("def mine(rows):\n    return False, ''\n", "issue", "it returned (False, ''): return"),
        ("def mine(table):\n    return True, 'x'\n", "issue", "lib/churn/mine.py:1: it needs the argument 'table': take any of rows, y_true"),
        ("def mine(y_pred):\n    y_pred[0] = 1\n", "issue", "it failed: ValueError: assignment destination is read-only, at lib/churn/mine.py:2"),
        ("def other(): ...\n", "issue", "lib/churn/mine.py has no 'mine'"),
        ("\n1 / 0\n", "issue", "lib/churn/mine.py:2: ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_check_that_cannot_be_run_is_an_issue_with_file_and_line(
    library: Path, source: str, status: str, evidence: str
) -> None:
    (library / "mine.py").write_text(source)
    before = ROWS.copy()
    [result] = run_checks({"OWN07": "churn.mine:mine"}, EXACT, ROWS)
    assert result.status == status
    assert evidence in result.evidence
    assert ROWS.equals(before)
    assert CheckResult.from_dict(result.to_dict()) == result


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("evaluation:\n  checks: {LK501: 'churn.checks:rows_per_region'}\n", "write the code of a check, e.g. OWN01"),
        ("evaluation:\n  checks: {OWN01: churn.checks}\n", "'churn.checks' is no import path"),
        ("checks:\n  mute: {OWN1: known}\nevaluation:\n", "write the code of a check, e.g. LK205 or OWN01"),
        (
            "checks:\n  mute: {LK255: known}\nevaluation:\n",
            r"diabetes.yaml:\d+: checks.mute.LK255: there is no check LK255: did you mean 'LK[0-9]+'\?",
        ),
        ("checks:\n  mute: {OWN02: known}\nevaluation:\n  checks: {OWN01: 'a.b:c'}\n", "did you mean 'OWN01'"),
    ],
)
def test_codes_are_checked_with_the_params(library: Path, section: str, message: str) -> None:
    text = (ROOT / "params" / "diabetes.yaml").read_text().replace("evaluation:\n", section)
    with pytest.raises(ParamsError, match=message):
        parse_file(text, ROOT / "params" / "diabetes.yaml")
