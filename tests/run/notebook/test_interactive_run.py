"""Work by hand in a notebook, recorded as such and never as a run of the pipeline."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from labkit.errors import ParamsError
from labkit.run.notebook.hidden_state import find_hidden_state
from labkit.run.notebook.step import start_step
from labkit.run.records import ledger, recovery, run_history, run_search, tracking_client
from labkit.run.records.interactive import Executed, load_executed
from labkit.secrets.redaction import Mask
from labkit.stages import past_run

from tests.own_store import work_in
from tests.run.kernels.warm_kernels import Kernel, wait_until
from tests.run.verification.scratch import TOKEN, code, make_scratch, write_scratch

START = "import labkit; step = labkit.start('eda', 'diabetes')"


@pytest.fixture
def root(params_root: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with params and an empty store, in which ordinary kernels start."""
    shutil.copy(store, params_root / "mlflow.db")
    (params_root / "notebooks").mkdir()
    monkeypatch.setenv("LABKIT_WARM", "")
    with work_in(params_root):
        yield params_root


def execute(kernel: Kernel, cell_id: str, source: str) -> str:
    """Run a cell as JupyterLab does, with its id, and return what it printed."""
    session = kernel.client.session
    message = session.msg("execute_request", {"code": source, "silent": False, "store_history": True, "allow_stdin": False, "user_expressions": {}, "stop_on_error": False}, metadata={"cellId": cell_id})  # fmt: skip
    kernel.client.shell_channel.send(message)
    printed: list[str] = []
    while True:
        got = kernel.client.get_iopub_msg(timeout=60)
        if got["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            content = got["content"]
            printed.append(content.get("text") or content.get("data", {}).get("text/plain", ""))
            if got["content"].get("execution_state") == "idle":
                return "".join(printed)


@pytest.mark.slow
def test_work_by_hand_is_recorded_and_hidden_state_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scratch(root / "notebooks" / "mine.ipynb", START, "step.track()", "x = 2", "y = gone + x", "print(0)")
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    kernel = Kernel(root / "notebooks")
    try:
        execute(kernel, "id-1", START)
        printed = execute(kernel, "id-2", "step.track()")
        assert "it is not a run of the pipeline" in printed
        assert "InteractiveRun('diabetes-" in printed, "not its address in memory"
        execute(kernel, "deleted", "gone = 1")
        execute(kernel, "id-5", "print(0)")
        execute(kernel, "id-3", f"x = 1  # {TOKEN}")
        execute(kernel, "id-4", "y = gone + x; step.log(score=0.5)")
        execute(kernel, "id-4", "1 / 0")
        [entry] = ledger.load_entries(with_interactive=True)
        assert run_history.make_row(entry, []).end == "running (interactive eda)"
        assert "[7] id-4 failed" in dict(run_history.describe_run(entry))["executed"]
        kernel.manager.shutdown_kernel()
        wait_until(lambda: not entry.process.is_alive())
    finally:
        kernel.close()
    [entry] = ledger.load_entries(with_interactive=True)
    assert run_history.make_row(entry, []).end == "finished (interactive eda)"
    assert [(one.count, one.cell_id, one.outcome) for one in load_executed(entry.run)] == [
        (1, "", "finished"),
        (2, "id-2", "finished"),
        (3, "deleted", "finished"),
        (4, "id-5", "finished"),
        (5, "id-3", "finished"),
        (6, "id-4", "finished"),
        (7, "id-4", "failed"),
    ]
    assert run_history.make_run_document(entry)["interactive"]["warnings"] == [
        "cell 3 (id-3): edited: was edited after it ran as [5]",
        "cell 4 (id-4): edited: was edited after it ran as [7]",
        "cell 4 (id-4), line 1: undefined: gone is defined nowhere in the notebook",
        "cell 5 (id-5): order: ran as [4], before cell 4 above it, which ran as [7]",
        "[3] ran code that no cell holds any more (1 line): deleted; still used of it: gone",
    ]
    [run] = run_search.search_runs("tags.`labkit.kind` = 'interactive'")
    assert (run.info.status, run.info.run_name, run.data.tags["labkit.finished"]) == (
        "FINISHED",
        "interactive eda",
        "true",
    )
    assert run.data.metrics == {"score": 0.5, "n_executions": 7, "n_failed": 1, "n_warnings": 5}
    assert "not a run of the pipeline" in run.data.tags["mlflow.note.content"]
    client = tracking_client.get_client()
    executed = Path(client.download_artifacts(run.info.run_id, "executed.py", str(root))).read_text()
    assert "# %% [3] deleted finished\ngone = 1\n\n# %% [4] id-5 finished\nprint(0)" in executed
    assert TOKEN not in executed + (root / ".labkit" / "runs" / entry.run / "cells.jsonl").read_text()
    check_no_pipeline_run(entry)


def check_no_pipeline_run(entry: ledger.Entry) -> None:
    """Check that an interactive run is nowhere taken for a run of the pipeline."""
    assert ledger.load_entries() == []
    with pytest.raises(ParamsError, match="no run 'diabetes'"):
        run_history.find_run("diabetes")
    assert run_history.find_run(entry.run).run == entry.run
    with pytest.raises(ParamsError, match="only runs of the pipeline can be compared"):
        past_run.find_past_run("diabetes", entry.run)
    assert run_search.find_holdout_metrics("diabetes") == {}
    assert run_search.search_runs("tags.`labkit.kind` = 'pipeline'") == []


@pytest.mark.slow
def test_record_of_a_kernel_that_dies_ends_with_the_cell(root: Path) -> None:
    kernel = Kernel(root / "notebooks")
    try:
        execute(kernel, "id-1", f"{START}; step.track()")
        kernel.client.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        [entry] = ledger.load_entries(with_interactive=True)
        wait_until(lambda: not entry.process.is_alive())
    finally:
        kernel.close()
    assert [one.run for one in recovery.reconcile()] == [entry.run]
    [entry] = ledger.load_entries(with_interactive=True)
    assert run_history.make_row(entry, []).end == "killed (interactive eda, unfinished)"
    assert [one.outcome for one in load_executed(entry.run)] == ["finished", "running"]
    described = dict(run_history.describe_run(entry))
    assert described["hidden state"] == "unfinished: not compared with the saved notebook"
    [run] = run_search.search_runs("tags.`labkit.kind` = 'interactive'")
    assert (run.info.status, run.data.tags["labkit.finished"]) == ("FAILED", "false")


@pytest.mark.slow
def test_magics_and_secrets_of_saved_cells_are_no_hidden_state(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [f"{START}\n%time x = 2", "step.track()", f"y = '{TOKEN}'", "print(step.tracked.stop())"]
    path = write_scratch(root / "notebooks" / "mine.ipynb", *cells)
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    kernel = Kernel(root / "notebooks")
    try:
        printed = [execute(kernel, f"id-{number}", source) for number, source in enumerate(cells, 1)]
    finally:
        kernel.close()
    assert printed[-1] == "[]\n"


def test_tracking_is_refused_outside_of_a_notebook(params_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = start_step("eda", "diabetes", None, None)  # type: ignore[arg-type]
    for shell in (None, InteractiveShell()):  # without IPython, and in its terminal
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        with pytest.raises(ParamsError, match=r"step\.track\(\): only in a notebook"):
            step.track()
    step.run_dir = params_root
    assert step.track() is None, "the pipeline records its runs itself"
    assert not (params_root / ".labkit").exists()


def test_a_notebook_run_from_top_to_bottom_hides_nothing() -> None:
    notebook = make_scratch("x = 1", code(""), "x")
    assert find_hidden_state(notebook, [Executed(1, "", "x = 1"), Executed(2, "id-3", "x\n")], mask=Mask()) == []
