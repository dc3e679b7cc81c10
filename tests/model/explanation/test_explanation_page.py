"""The page of a whole run: its sections, and its numbers, which are those of the release."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.model.release import bundle

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]


def load_explanation(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / "data/diabetes/explanation/explanation.json").read_text())
    return found


def test_single_rows_add_up_to_the_prediction_of_the_release(root: Path) -> None:
    opened = bundle.load_release(root / "data/diabetes/release")
    holdout = pd.read_parquet(root / "data/diabetes/clean/holdout.parquet")
    content = load_explanation(root)
    rows = content["telling_rows"]
    assert isinstance(rows, list)
    assert [row["title"] for row in rows] == [
        "Median prediction",
        "Highest prediction",
        "Lowest prediction",
        "Largest error",
    ]
    for row in rows:
        made = np.add(row["base"], np.sum([*row["contributions"].values()], axis=0))
        [expected] = opened.predict(holdout.loc[[int(row["row"])]])
        np.testing.assert_allclose(made, row["prediction"], rtol=1e-6)
        np.testing.assert_allclose(row["prediction"], expected, rtol=1e-6)
    checks = content["checks"]
    assert isinstance(checks, list)
    assert {check["code"]: check["status"] for check in checks} == {
        "LK901": "passed",
        "LK902": "passed",
        "LK903": "not applicable",
    }


def test_page_names_columns_and_leaves_out_what_is_not_declared(root: Path) -> None:
    page = (root / "reports/diabetes/09_explanation.html").read_text()
    headings = re.findall(r"<h2[^>]*>([^<]+)", page)
    assert headings[:3] == ["What it relies on", "Why single rows", "How predictions change"]
    assert "How it treats groups" not in page
    assert "body mass index (kg/m²)" in page
    importance = pd.read_parquet(root / "data/diabetes/explanation/importance.parquet")
    assert importance["share"].sum() == pytest.approx(1)
    assert (importance["low"] <= importance["size"]).all()
