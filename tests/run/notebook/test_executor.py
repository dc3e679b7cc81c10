"""Notebooks executed by papermill: what is injected, how an end is reported, what is left."""

import io
from pathlib import Path

import nbformat
import pytest
from labkit.params.experiment import TimeLimits
from labkit.paths import WARM_VARIABLE, find_root

from tests.run.notebook.small_notebooks import EXPERIMENT, make_notebook, run
from tests.shared_server import SharedServer


@pytest.fixture
def _forks(shared_server: SharedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have kernels that are forks of one server, as a run has them; a limit, a kill and sockets are for ordinary ones."""
    monkeypatch.setenv(WARM_VARIABLE, str(shared_server.address))


@pytest.mark.slow
@pytest.mark.usefixtures("_forks")
def test_parameters_and_environment_reach_the_notebook(tmp_path: Path) -> None:
    path = make_notebook(tmp_path / "a.ipynb", EXPERIMENT, "import os", 'print(experiment, os.environ["FLAG"])')
    before = path.read_bytes()
    ended, reported, executed = run(path, FLAG="up")
    assert ended.failure is None
    assert executed.cells[-1].outputs[0].text == "other up\n"
    assert [cell[2] for cell in reported] == ["Title", "Title", "Part", "Part"]
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("_forks")
def test_failure_names_cell_heading_line_and_error(tmp_path: Path) -> None:
    warned = "import labkit, sys\nprint(labkit.__file__, file=sys.stderr)"
    path = make_notebook(tmp_path / "a.ipynb", EXPERIMENT, warned, "x = 0\n1 / x", "print('never')")
    failure = run(path)[0].failure
    assert failure is not None
    kept = (path.parent / "executed.ipynb").read_text()
    assert "lib/labkit/__init__.py" in kept
    assert str(find_root()) not in kept
    assert "/ipykernel_" not in kept
    assert failure.summary == "ZeroDivisionError: division by zero"
    assert failure.place == "cell 5 of 6, under “Part”", "as in JupyterLab, without the cell that papermill adds"
    assert failure.line == "1 / x"


GROUP = "ExceptionGroup('several', [ValueError('one'), KeyError('two')])"
TASKS = """
import asyncio
async def fail():
    raise ValueError("in a task")
async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())
await main()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("_forks")
@pytest.mark.parametrize(
    ("source", "summary", "line"),
    [
        (
            f"x = 1\nraise {GROUP}",
            "ExceptionGroup: several (2 exceptions): ValueError: one; KeyError: 'two'",
            f"raise {GROUP}",
        ),
        (
            f"import sys\nprint('before', file=sys.stderr)\ndef f(): raise {GROUP}\nf()",
            "ExceptionGroup: several (2 exc",
            "f()",
        ),
        (TASKS, "ExceptionGroup: unhandled errors in a TaskGroup (1 exception): ValueError: in a task", "await main()"),
        (
            "raise BaseExceptionGroup('all', [KeyboardInterrupt()])",
            "BaseExceptionGroup: all (1 exception): KeyboardInt",
            "raise Base",
        ),
        ("raise ValueError", "ValueError", "raise ValueError"),
        ("raise ValueError('\\n\\nthe message')", "ValueError: the message", "raise ValueError("),
        (
            "try: 1 / 0\nexcept Exception: get_ipython().showtraceback()\nraise KeyError('later')",
            "KeyError: 'later'",
            "raise KeyError('later')",
        ),
    ],
)
def test_any_exception_is_reported_with_its_line(tmp_path: Path, source: str, summary: str, line: str) -> None:
    ended, _, executed = run(make_notebook(tmp_path / "a.ipynb", EXPERIMENT, source))
    assert ended.failure is not None
    assert ended.failure.summary.startswith(summary)
    assert ended.failure.line.startswith(line)
    outputs = executed.cells[-1].outputs
    assert outputs[-1].output_type == "error"
    assert str(outputs).count("Exception Group Traceback") == (1 if "Group" in source else 0)
    assert [output.text for output in outputs[:-1] if "text" in output] == ["before\n"] * ("before" in source)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", ["import os; os._exit(0)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
)
def test_dead_kernel_is_a_failure_that_names_the_cell(tmp_path: Path, source: str) -> None:
    failure = run(make_notebook(tmp_path / "a.ipynb", EXPERIMENT, source, "1"))[0].failure
    assert failure is not None
    assert failure.error_name == "DeadKernelError"
    assert failure.heading == "Part"


@pytest.mark.slow
def test_kernel_is_reached_through_private_sockets(tmp_path: Path) -> None:
    asking = (
        "import json, pathlib, ipykernel\n"
        "info = json.loads(ipykernel.get_connection_info())\n"
        "folder = pathlib.Path(info['ip']).parent\n"
        "print(info['transport'], oct(folder.stat().st_mode), folder)"
    )
    executed = run(make_notebook(tmp_path / "a.ipynb", 'experiment = ""', asking))[2]
    transport, mode, folder = executed.cells[-1].outputs[0].text.split()
    assert transport == "ipc"
    assert int(mode, 8) & 0o077 == 0
    assert not Path(folder).exists()


SLEEP = "import time\nprint('began', flush=True)\ntime.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    time.sleep(1)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "source", "setting"),
    [
        (TimeLimits(cell_seconds=1.5), SLEEP, "the cell ran for 1.5 s, limits.cell_seconds allows no more"),
        (TimeLimits(cell_seconds=1.5), STUBBORN, "the cell ran for 1.5 s, limits.cell_seconds allows no more"),
        (
            TimeLimits(cell_seconds=0.8),
            "import time; time.sleep(3)\nimport antigravity_not_there",
            "limits.cell_seconds",
        ),
        (TimeLimits(stage_seconds=4), SLEEP, "the stage ran for 4 s, limits.stage_seconds allows no more"),
    ],
    ids=["interruptible", "ignores the interrupt", "before its import", "stage"],
)
def test_cell_that_takes_too_long_is_ended_and_the_limit_is_named(
    tmp_path: Path, limits: TimeLimits, source: str, setting: str
) -> None:
    ended, _, executed = run(make_notebook(tmp_path / "a.ipynb", EXPERIMENT, source, "print('never')"), limits=limits)
    assert ended.failure is not None
    assert ended.failure.summary.startswith("timed out: ")
    assert setting in ended.failure.summary
    assert ended.failure.cell == 4
    assert find_states(executed) == ["finished", "finished", "finished", "finished", "timed out", "not run"]


def find_states(executed: nbformat.NotebookNode) -> list[str]:
    """Return how each cell is marked, which papermill's own marks must not contradict."""
    for cell in executed.cells:
        states = {"finished": ("completed", False), "not run": ("pending", None)}
        expected = states.get(cell.metadata.labkit.state, ("failed", True))
        assert (cell.metadata.papermill.status, cell.metadata.papermill.exception) == expected
    return [cell.metadata.labkit.state for cell in executed.cells]


@pytest.mark.slow
@pytest.mark.usefixtures("_forks")
@pytest.mark.parametrize("call", ["sys.exit(0)", "sys.exit('')", "raise SystemExit(3)", "exit()", "quit(1)"])
def test_exit_in_a_cell_is_a_failure_unless_the_cell_allows_it(tmp_path: Path, call: str) -> None:
    path = make_notebook(tmp_path / "a.ipynb", EXPERIMENT, f"import sys\n{call}", "print('after')")
    ended, _, executed = run(path)
    assert ended.failure is not None
    assert ended.failure.error_name == "SystemExit"
    assert find_states(executed)[-2:] == ["failed", "not run"]
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-2].metadata["tags"] = ["allow-exit"]
    nbformat.write(notebook, path)
    ended, _, executed = run(path)
    assert ended.failure is None
    assert find_states(executed)[-2:] == ["finished", "not run"]


@pytest.mark.slow
@pytest.mark.usefixtures("_forks")
def test_live_log_shows_cells_and_outputs_as_they_come(tmp_path: Path) -> None:
    path = make_notebook(tmp_path / "a.ipynb", EXPERIMENT, "print('first')\n1 + 1", "1 / 0")
    log = io.StringIO()
    run(path, log=log)
    reported = log.getvalue()
    places = [
        reported.index(string) for string in ("cell 4 of 5: Part", "first", "2\n", "cell 5 of 5", "ZeroDivisionError")
    ]
    assert places == sorted(places)


@pytest.mark.slow
@pytest.mark.usefixtures("_forks")
def test_seconds_of_every_cell_are_known(tmp_path: Path) -> None:
    ended = run(make_notebook(tmp_path / "a.ipynb", EXPERIMENT, "import time; time.sleep(1)"))[0]
    assert len(ended.cells) == 4
    assert ended.cells[-1] >= 1 > ended.cells[0]
