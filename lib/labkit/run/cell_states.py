"""How an executed notebook records the way each of its cells ended: written by the runner, read by the reports."""

from typing import Literal

from nbformat import NotebookNode

CellState = Literal["finished", "failed", "interrupted", "timed out", "died", "not run"]
STATE_KEY = "labkit"
"""Key of a cell's metadata under which its state and its seconds are stored."""
PAPERMILL_BANNER = "papermill-error-cell-tag"
"""Tag of the cells that papermill adds above a failed cell."""

INJECTED = "injected-parameters"
"""papermill's tag of the cell of parameters that it adds."""


def remove_banners(notebook: NotebookNode) -> None:
    """Remove the cells that papermill added to a notebook that failed."""
    notebook.cells = [cell for cell in notebook.cells if PAPERMILL_BANNER not in cell.metadata.get("tags", [])]


def set_state(cell: NotebookNode, state: CellState, seconds: float) -> None:
    """Store how a cell ended and how long it took."""
    cell.metadata[STATE_KEY] = {"state": state, "seconds": round(seconds, 3)}


def get_state(cell: NotebookNode) -> str:
    """Return how a cell ended: as stored, otherwise as its error output or its missing execution count shows."""
    has_error = any(output.output_type == "error" for output in cell.outputs)
    otherwise = "failed" if has_error else "not run" if cell.execution_count is None else "finished"
    return str(cell.metadata.get(STATE_KEY, {}).get("state", otherwise))
