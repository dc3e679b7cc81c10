"""Notebooks executed by papermill: what is injected, how an end is told, what is left."""

import os
from pathlib import Path

import nbformat
import pytest
from labkit.run.notebooks import read_source
from labkit.run.runner import Execution, run_notebook


def make_notebook(path: Path, *sources: str, tagged: int = 0) -> Path:
    """Write a notebook of code cells, one of them tagged `parameters`, under two headings."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[tagged].metadata["tags"] = ["parameters"]
    headed = [
        nbformat.v4.new_markdown_cell("# Title"),
        *cells[:1],
        nbformat.v4.new_markdown_cell("## Part"),
        *cells[1:],
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=headed, metadata={"kernelspec": kernel}), path)
    return path


def run(path: Path, **environment: str) -> tuple[Execution, list[tuple[int, int, str]], nbformat.NotebookNode]:
    """Execute a notebook; return how it ended, the cells told of, and the executed copy."""
    told: list[tuple[int, int, str]] = []
    executed = path.with_name("executed.ipynb")
    ended = run_notebook(
        read_source(path),
        executed,
        parameters={"experiment": "other"},
        environment={**os.environ, **environment},
        on_cell=lambda *cell: told.append(cell),
    )
    return ended, told, nbformat.read(executed, as_version=4)


def test_parameters_and_environment_reach_the_notebook(tmp_path: Path) -> None:
    path = make_notebook(
        tmp_path / "a.ipynb", 'experiment = "mine"', "import os", 'print(experiment, os.environ["FLAG"])'
    )
    before = path.read_bytes()
    ended, told, executed = run(path, FLAG="up")
    assert ended.failure is None
    assert executed.cells[-1].outputs[0].text == "other up\n"
    assert [cell[2] for cell in told] == ["Title", "Title", "Part", "Part"]
    assert path.read_bytes() == before


def test_failure_names_cell_heading_line_and_error(tmp_path: Path) -> None:
    path = make_notebook(tmp_path / "a.ipynb", 'experiment = "mine"', "x = 0\n1 / x", "print('never')")
    failure = run(path)[0].failure
    assert failure is not None
    assert failure.summary == "ZeroDivisionError: division by zero"
    assert failure.place == f"cell {failure.cell} of {failure.n_cells}, under “Part”"
    assert failure.line == "1 / x"


@pytest.mark.parametrize(
    "source", ["import os; os._exit(0)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
)
def test_dead_kernel_is_a_failure_that_names_the_cell(tmp_path: Path, source: str) -> None:
    failure = run(make_notebook(tmp_path / "a.ipynb", 'experiment = "mine"', source, "1"))[0].failure
    assert failure is not None
    assert failure.error_name == "DeadKernelError"
    assert failure.heading == "Part"


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
