"""The state of a cell as the runner stores it and as reports read it."""

from typing import get_args

import pytest
from labkit.run.cell_states import CellState, get_state
from labkit.run.notebook.result import mark_cells
from nbformat.v4 import new_code_cell, new_notebook, new_output


@pytest.mark.parametrize("state", get_args(CellState))
def test_stored_state_is_read_back(state: CellState) -> None:
    notebook = new_notebook(cells=[new_code_cell("1 / 0", outputs=[new_output("error")])])
    mark_cells(notebook, [state], [1.0])
    assert get_state(notebook.cells[0]) == state


def test_state_of_a_notebook_run_by_papermill_alone() -> None:
    cells = [
        new_code_cell("1", execution_count=1),
        new_code_cell("1 / 0", execution_count=2, outputs=[new_output("error")]),
        new_code_cell("2"),
    ]
    assert [get_state(cell) for cell in cells] == ["finished", "failed", "not run"]
