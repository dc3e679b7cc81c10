"""The board, driven by its widgets without a browser, on a small pipeline."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from labkit.errors import ParamsError
from labkit.view.board.app import Board

from tests.conftest import ROOT, make_environment
from tests.run.small import find_done, load_ledger, make_small, started, wait_until
from tests.shared_server import SharedServer

pytestmark = pytest.mark.slow

SLOW = "time.sleep(60)"


@pytest.fixture
def small(tmp_path: Path, store: Path, shared_server: SharedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a checkout of two stages; no board follows it after the test."""
    root = shared_server.lend(make_small(tmp_path / "checkout", "eda", "wrangling", store=store))
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)
    # So that what the board sets for its kernel ends with the test.
    for name in ("MLFLOW_TRACKING_URI", "JUPYTER_PATH", "PATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PATH", make_environment(root)["PATH"])
    yield root
    Board.latest = None


def change_cell(root: Path, stage: str, source: str) -> None:
    path = next((root / "notebooks").glob(f"*_{stage}.ipynb"))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].source = source
    nbformat.write(notebook, path)


def find_states(board: Board) -> dict[str, str]:
    return {stage.stage: stage.state for stage in board.state.stages} if board.state else {}


def wait_for_end(board: Board) -> None:
    wait_until(lambda: board.child is None, 120)
    with board.lock:
        pass  # its end is shown


def run_all(board: Board) -> None:
    board.run_button.click()
    assert board.child or board.message.value
    wait_for_end(board)


def test_stages_run_become_stale_by_a_parameter_and_run_alone(small: Path) -> None:
    board = Board()
    assert (board.experiment, find_states(board)) == ("small", {"eda": "never run", "wrangling": "never run"})
    assert "No run of small yet." in board.runs.table.value
    assert board.state
    assert [stage.after for stage in board.state.stages] == [(), ("eda",)]
    run_all(board)
    assert find_states(board) == {"eda": "up to date", "wrangling": "up to date"}
    assert "labkit run small --no-wait: finished" in board.message.value
    assert (board.progress.value, board.progress.max) == (2, 2)
    assert "eda          ran " in board.log_view.value
    assert 'href="../reports/small/01_eda.html"' in board.pipeline.outputs[0]["data"]["text/html"]

    board.form.section.value = "seed"
    board.form.inputs["seed"].value = "many"
    assert "seed is &#x27;many&#x27;: write a whole number" in board.form.message.value
    board.form.inputs["seed"].value = "7"
    assert "+seed: 7" in board.form.message.value
    assert "seed: 7\n\ndata:" in (small / "params" / "small.yaml").read_text()
    assert "# values outside are typing errors" in (small / "params" / "small.yaml").read_text()
    assert find_states(board) == {"eda": "stale", "wrangling": "stale"}
    assert board.state
    assert "params seed changed" in board.state.stages[0].reasons
    board.stage_picker.value = "eda"
    run_all(board)
    assert "--until eda --force eda: finished" in board.message.value
    assert find_states(board) == {"eda": "up to date", "wrangling": "stale"}


def test_run_is_stopped_and_recorded_as_interrupted(small: Path) -> None:
    change_cell(small, "wrangling", SLOW)
    board = Board("small")
    board.run_button.click()
    wait_until(lambda: find_states(board) == {"eda": "up to date", "wrangling": "running"})
    assert board.run_button.disabled
    assert "Under way: the run of small" in board.pipeline.outputs[0]["data"]["text/html"]
    board.form.section.value = "seed"
    board.form.inputs["seed"].value = "9"
    assert "the run of small (process" in board.form.message.value
    assert "is under way: wait for it, or end it" in board.form.message.value
    assert "seed: 42" in (small / "params" / "small.yaml").read_text()
    board.stop_button.click()
    wait_for_end(board)
    assert "stopped; finished stages are kept" in board.message.value
    assert find_states(board) == {"eda": "up to date", "wrangling": "interrupted"}
    assert find_done(small)["wrangling"]["outcome"] == "interrupted"


def test_stage_that_fails_is_shown_with_its_message(small: Path) -> None:
    change_cell(small, "eda", "1 / 0")
    board = Board()
    run_all(board)
    assert "failed with exit code 1" in board.message.value
    assert "ZeroDivisionError: division by zero" in board.message.value
    assert find_states(board) == {"eda": "failed", "wrangling": "never run"}


def test_runner_that_is_killed_is_closed_and_shown(small: Path) -> None:
    change_cell(small, "eda", SLOW)
    board = Board()
    board.run_button.click()
    wait_until(lambda: find_states(board).get("eda") == "running")
    assert board.child
    for process in [*psutil.Process(board.child.process.pid).children(recursive=True), board.child.process]:
        process.kill()
    wait_for_end(board)
    assert "failed with exit code -9" in board.message.value
    assert find_states(board)["eda"] == "killed"
    assert {done["outcome"] for done in find_done(small).values()} == {"killed"}


def test_two_boards_and_a_run_elsewhere_do_not_disturb_each_other(small: Path) -> None:
    change_cell(small, "eda", "time.sleep(4)")
    with started(small, "run", "small", "--cold"):
        wait_until(lambda: load_ledger(small)[1:])
        first, second = Board(), Board()
        run_all(second)
        assert "is under way: wait for it, or end it" in second.message.value
        assert second.state
        assert "the run of small (process" in second.state.under_way
        assert first.child is None
        wait_until(lambda: find_states(second) == {"eda": "up to date", "wrangling": "up to date"})


def test_params_file_with_an_error_is_shown_and_the_board_goes_on(small: Path) -> None:
    path = small / "params" / "small.yaml"
    content = path.read_text()
    path.write_text(content.replace("folds: 5", "folds: 500"))
    board = Board()
    assert "params/small.yaml:41: training.folds is 500: write 20 or less" in board.message.value
    assert (board.state, board.run_button.disabled, board.form.rows.children) == (None, True, ())
    path.write_text(content)
    board.refresh_button.click()
    assert (find_states(board)["eda"], board.message.value) == ("never run", "")
    assert not board.run_button.disabled
    board.open_button.click()
    assert "no report yet: run `labkit run small`" in board.message.value
    board.runs.button.click()
    assert "small: no finished run in this checkout yet" in board.runs.result.value


def test_unknown_experiment_is_refused(small: Path) -> None:
    with pytest.raises(ParamsError, match="^no experiment 'smal' in params/: did you mean 'small'"):
        Board("smal")


def test_executed_copy_shows_the_same_state_without_widgets(small: Path) -> None:
    copy = small / "board.ipynb"
    [command] = re.findall("^papermill .*", (ROOT / "docs" / "jupyterlab.md").read_text(), flags=re.MULTILINE)
    shutil.copy(ROOT / "notebooks" / "00_board.ipynb", small / "notebooks")
    environment = make_environment(small)
    done = subprocess.run(shlex.split(command), cwd=small, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [output] = json.loads(copy.read_text())["cells"][-1]["outputs"]
    shown = "".join(output["data"]["text/html"])
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert shown == "".join(Board("small", is_static=True)._repr_mimebundle_()["text/html"])
    assert shown.count("never run") == 4
