"""The error explorer: what is chosen is compared, and a batch run shows pictures and tables."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.utils.capture import capture_output
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.error_comparison import ALL_ROWS, ErrorSource
from labkit.model.evaluation.predictions import Predictions
from labkit.view.error_explorer import EVERY_COLUMN, NO_COLUMN, SAME, ErrorExplorer, explore_errors

from tests.view.tables import make_table

N = 400
FRAME = make_table(N).drop(columns=["late", "price", "kind"]).rename(columns={"when": PREDICT_AT})
FRAME.index += 1000
TRUE = (FRAME["size"] > 10).astype(int).to_numpy()


def predict(quality: np.ndarray) -> Predictions:
    """Return predictions that give the true class this probability."""
    proba = np.where(np.eye(2)[TRUE] == 1, quality[:, None], 1 - quality[:, None])
    return Predictions.from_proba(TRUE, proba, ("no", "<b>yes</b>"))


RANDOM = np.random.default_rng(3)
GOOD = RANDOM.uniform(0.6, 0.9, N)
WEAK = np.where(FRAME["colour"] == "red", 0.35, GOOD + RANDOM.uniform(-0.05, 0.05, N))
MODELS = {"model": predict(WEAK), "plain LightGBM": predict(GOOD)}


def make_explorer() -> ErrorExplorer:
    return ErrorExplorer(ErrorSource(MODELS, FRAME, make_rows(N), 0.95), kind="holdout")


def test_planted_group_is_first_and_its_rows_are_shown() -> None:
    explorer = make_explorer()
    assert explorer.found is not None
    assert explorer.found.table["slice"][0] == "colour = red"
    assert not explorer.found.table["slice"].str.contains("constant").any()
    assert "measured on the same 400 holdout rows" in explorer.result.value
    assert "<img alt" in explorer.result.value
    assert explorer.groups.label.startswith("colour = red · ")
    assert "colour = red: 10 of " in explorer.rows.value
    assert "<td>1,0" not in explorer.rows.value
    assert "&lt;b&gt;yes&lt;/b&gt;" in explorer.rows.value
    assert "<script" not in explorer.result.value + explorer.rows.value


def test_every_choice_changes_what_is_compared() -> None:
    explorer = make_explorer()
    explorer.column.value, explorer.other.value = "colour", "flag"
    assert explorer.found is not None
    assert explorer.found.table["slice"].str.match("colour .+ and flag = ").all()
    before = explorer.rows.value
    explorer.groups.index = 1
    assert explorer.rows.value != before
    explorer.loss.value = "error rate"
    assert "Mean error rate: 0.26 (model) and 0.00 (" in explorer.result.value
    explorer.other.value = "colour"
    assert explorer.found.table["slice"].str.fullmatch("colour (=|missing).*").all()
    explorer.first.value = "plain LightGBM"
    assert explorer.found is None
    assert SAME in explorer.result.value
    assert (explorer.groups.options, explorer.rows.value) == ((), "")
    period = explorer.first_rows.options[-1][1]
    assert period != ALL_ROWS
    explorer.first_rows.value = period
    assert f"plain LightGBM, {period} against plain LightGBM, all other rows" in explorer.result.value


def test_second_column_can_be_chosen_only_beside_a_first() -> None:
    explorer = make_explorer()
    assert explorer.other.disabled
    explorer.column.value = "colour"
    assert not explorer.other.disabled
    explorer.other.value = "flag"
    explorer.column.value = EVERY_COLUMN
    assert (explorer.other.disabled, explorer.other.value) == (True, NO_COLUMN)
    assert explorer.found is not None
    every = make_explorer().found
    assert every is not None
    pd.testing.assert_frame_equal(explorer.found.table, every.table)


def test_caption_says_whether_the_first_side_loses_on_any_row() -> None:
    explorer = make_explorer()
    assert "of model, where it loses most to the other.</p>" in explorer.rows.value
    explorer.column.value, explorer.second.value, explorer.first.value = "colour", "model", "plain LightGBM"
    assert explorer.found is not None
    # On each red row, plain LightGBM is better.
    explorer.groups.index = explorer.found.table["slice"].tolist().index("colour = red")
    assert "of plain LightGBM, where its lead over the other is smallest; it loses on none.</p>" in explorer.rows.value
    explorer.first_rows.value = explorer.first_rows.options[1][1]
    explorer.second.value, explorer.second_rows.value = "plain LightGBM", ALL_ROWS
    assert ", with its largest errors.</p>" in explorer.rows.value


@pytest.mark.parametrize("has_time", [True, False])
def test_batch_shows_plots_and_tables(has_time: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path))
    frame = FRAME if has_time else FRAME.drop(columns=PREDICT_AT)
    with capture_output() as captured:
        assert explore_errors(MODELS, frame, blocks=make_rows(N), confidence=0.95) is None
    shown = [output.data.get("text/html") or output.data["text/markdown"] for output in captured.outputs]
    assert len(shown) == (6 if has_time else 3)
    assert "Errors by group: model against plain LightGBM" in shown[0]
    assert "<img alt" in shown[0]
    assert re.match(
        r"Mean log loss: 0\.\d+ \(model\) and 0\.\d+ \(plain LightGBM\), measured on the same 400 holdout rows\. ",
        shown[1],
    )
    assert "colour = red" in shown[2]


def test_few_rows_one_model_and_no_time_are_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few = np.arange(8)
    models = {name: one.take(few) for name, one in MODELS.items()}
    explorer = ErrorExplorer(ErrorSource(models, FRAME.iloc[:8], make_rows(8), 0.95))
    assert "Of 0 groups with at least 25 rows, 0 differ" in explorer.result.value
    explorer = ErrorExplorer(ErrorSource({"model": MODELS["model"]}, FRAME[["size"]], make_rows(N), 0.95))
    assert SAME in explorer.result.value
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path))
    with capture_output() as captured:
        explore_errors(models, pd.DataFrame(FRAME[["empty"]].iloc[:8]), blocks=make_rows(8), confidence=0.95)
    assert captured.outputs[-1].data["text/markdown"] == "No group has enough rows."
