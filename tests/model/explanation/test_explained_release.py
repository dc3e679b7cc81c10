"""The page and the service explain alike, with a graph and without, for every task; times and histories included."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.table_columns import take_columns
from labkit.model.explanation.background import choose_background, make_background_files
from labkit.model.explanation.shapley import explain_rows
from labkit.model.release import bundle
from labkit.serving.engine import load_engine

from tests.model.tables import TASKS, make_table
from tests.serving.running import write_release
from tests.serving.shop_release import make_orders, write_shop_release

ROWS = make_table(60)


def explain_as_page(folder: Path, rows: pd.DataFrame, chosen: pd.DataFrame) -> tuple[bundle.Release, list[Any]]:
    """Explain rows as the notebook does."""
    opened = bundle.load_release(folder)
    inputs = opened.row_features.inputs_
    return opened, explain_rows(opened.predict_columns, take_columns(rows, inputs), take_columns(chosen, inputs))


def explain_as_service(folder: Path, rows: pd.DataFrame) -> list[Any]:
    """Explain rows as `/explain` does."""
    engine = load_engine(folder, digest=None, version=None)
    sent = json.loads(rows[[*engine.reader.kinds]].to_json(orient="records", date_format="iso", double_precision=15))
    assert engine.background is not None
    return engine.explain(engine.reader.make_columns(engine.reader.convert(sent)), engine.background)


def check_alike(folder: Path, rows: pd.DataFrame, chosen: pd.DataFrame) -> None:
    opened, shown = explain_as_page(folder, rows, chosen)
    answered = explain_as_service(folder, rows)
    predicted = opened.predict(rows).reshape(len(rows), -1)
    for page, service, expected in zip(shown, answered, predicted, strict=True):
        assert page.columns == service.columns
        np.testing.assert_allclose(page.contributions, service.contributions, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(page.errors, service.errors, rtol=1e-6, atol=1e-9)
        sums = page.base + page.contributions.sum(axis=0)
        np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_page_and_service_explain_alike(tmp_path: Path, task: str) -> None:
    folder = write_release(tmp_path / "release", task, n_background=0)
    opened = bundle.load_release(folder)
    chosen = choose_background(ROWS, opened.predict, n_rows=6, seed=0)
    bundle.extend_release(folder, make_background_files(chosen))
    check_alike(folder, ROWS.head(8), chosen)


def test_page_and_service_explain_rows_with_times_and_a_history_alike(tmp_path: Path) -> None:
    folder = write_shop_release(tmp_path / "release")
    rows = make_orders()[1]
    chosen = choose_background(rows, bundle.load_release(folder).predict, n_rows=5, seed=0)
    bundle.extend_release(folder, make_background_files(chosen[[*bundle.load_release(folder).row_features.inputs_]]))
    check_alike(folder, rows.head(6), chosen)
    _, shown = explain_as_page(folder, rows.head(6), chosen)
    times = [place for place, name in enumerate(shown[0].columns) if name == "predict_at"]
    assert any(abs(one.contributions[times]).max() > 0 for one in shown), "the moment decides which outcomes count"


@pytest.mark.parametrize("task", TASKS)
def test_release_without_a_graph_is_explained_by_its_pipeline(tmp_path: Path, task: str) -> None:
    with_graph = write_release(tmp_path / "graph", task, model="linear")
    without = write_release(tmp_path / "pipeline", task, model="linear", has_graph=False)
    assert bundle.load_release(without).graph is None
    (opened, ours), (_, theirs) = (explain_as_page(one, ROWS.head(4), ROWS.tail(5)) for one in (without, with_graph))
    for one, other, expected in zip(ours, theirs, opened.predict(ROWS.head(4)).reshape(4, -1), strict=True):
        np.testing.assert_allclose(one.base + one.contributions.sum(axis=0), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(one.contributions, other.contributions, rtol=1e-5, atol=1e-5)
