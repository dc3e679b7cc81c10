import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from IPython.utils.capture import capture_output
from labkit.data.quality.profile import profile_table
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning, Target
from labkit.view import widgets
from nbclient import NotebookClient

from tests.view.tables import MANY_CLASSES, REGRESSION, TWO_CLASSES, make_table

TABLE = make_table()
TARGETS = pytest.mark.parametrize("target", [REGRESSION, TWO_CLASSES, MANY_CLASSES], ids=lambda target: target.column)
CELL = """
from labkit.data.quality.profile import profile_table
from labkit.view.widgets import explore_columns
from tests.view.tables import TWO_CLASSES, make_table

frame = make_table()
explore_columns(frame, profile_table(frame, TWO_CLASSES, seed=1), TWO_CLASSES)
"""


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)


@pytest.fixture(scope="module")
def profile() -> pd.DataFrame:
    return profile_table(TABLE, TWO_CLASSES, seed=1)


def find_alt(page: str) -> str:
    found = re.search(r'<img alt="([^"]+)"', page)
    assert found
    return found[1]


def test_choosing_a_column_draws_it(by_hand: None, profile: pd.DataFrame) -> None:
    explorer = widgets.explore_columns(TABLE, profile, TWO_CLASSES)
    (chosen, _, _), view = explorer.children[0].children, explorer.children[1]
    assert chosen.value == "price"
    assert "price against late" in find_alt(view.value)
    chosen.value = "colour"
    assert "colour against late" in find_alt(view.value)
    assert "most common" in view.value


def test_numbers_of_a_time_of_day_are_written_as_one() -> None:
    frame = pd.DataFrame({"left": [60, 300, 840, 1110, 1439], "late": [0, 1, 0, 1, 0]})
    profile = profile_table(frame, Target(column="late", task="classification", positive=1), seed=1)
    subject = Subject("", columns={"left": ColumnMeaning(format="time_of_day")})
    shown = widgets.describe_values(frame["left"], profile.set_index("column", drop=False).loc["left"], subject)
    assert (shown["smallest"], shown["median"], shown["largest"]) == ("01:00", "14:00", "23:59")
    between = widgets.describe_values(
        frame["left"].head(4), profile.set_index("column", drop=False).loc["left"], subject
    )
    assert (between["median"], between["upper quarter"]) == ("09:30", "15:07:30")


def test_numbers_are_of_the_rows_that_the_profile_describes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path))
    frame = pd.DataFrame({"left": [5.0, 300, 840, 1110, 1439], "late": [None, 1, 0, 1, 0]})
    target = Target(column="late", task="classification", positive=1)
    with capture_output() as captured:
        widgets.explore_columns(frame.dropna(), profile_table(frame, target, seed=1), target, every=frame)
    assert ">5<" in captured.outputs[1].data["text/html"]


def test_buttons_step_through_all_columns_and_round(by_hand: None, profile: pd.DataFrame) -> None:
    explorer = widgets.explore_columns(TABLE, profile, TWO_CLASSES)
    chosen, back, forth = explorer.children[0].children
    names = [value for _, value in chosen.options]
    assert "late" not in names
    back.click()
    assert chosen.value == names[-1]
    forth.click()
    forth.click()
    assert chosen.value == names[1]
    assert f"{names[1]} against late" in find_alt(explorer.children[1].value)


@TARGETS
def test_every_column_of_any_table_can_be_chosen(by_hand: None, target: Target) -> None:
    explorer = widgets.explore_columns(TABLE, profile_table(TABLE, target, seed=1), target)
    chosen, view = explorer.children[0].children[0], explorer.children[1]
    for _, name in chosen.options:
        chosen.value = name
        assert view.value.count("<img") == 1
        assert "<script" not in view.value


def test_batch_shows_pictures_and_tables_instead(
    profile: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path))
    with capture_output() as captured:
        assert widgets.explore_columns(TABLE, profile, TWO_CLASSES) is None
    forms = [set(output.data) - {"text/plain"} for output in captured.outputs]
    assert forms == [{"text/html"}, {"text/html"}] * widgets.STATIC_COLUMNS
    assert "<figure" in captured.outputs[0].data["text/html"]


@pytest.mark.parametrize(("is_run", "form"), [(False, "application/vnd.jupyter.widget-view+json"), (True, "text/html")])
def test_explorer_in_a_real_kernel(is_run: bool, form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path) if is_run else "")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    root = Path(__file__).resolve().parents[2]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(root)}}).execute()
    assert form in next(output.data for output in notebook.cells[0].outputs if "data" in output)
