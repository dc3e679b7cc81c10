"""How the cells of an executed notebook ended, and why it stopped.

Reads and marks notebooks; executes none: that is `labkit.run.runner`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import nbformat

State = Literal["finished", "failed", "interrupted", "timed out", "died", "not run"]
Outcome = Literal["finished", "failed", "interrupted", "timed out", "died"]
STATE_KEY = "labkit"
ALLOW_EXIT = "allow-exit"
"""Tag of a cell that may end the notebook early with `sys.exit()`."""
PAPERMILL_BANNER = "papermill-error-cell-tag"
# What papermill's own mark of a cell is called, for other readers of the executed notebook.
PAPERMILL_STATES = {"finished": "completed", "not run": "pending"}


@dataclass(frozen=True)
class Failure:
    """Why a notebook stopped."""

    cell: int
    n_cells: int
    heading: str
    line: str
    error_name: str
    error_text: str

    @property
    def summary(self) -> str:
        """The error's first line."""
        return next(iter(self.error_text.splitlines()), self.error_name)

    @property
    def place(self) -> str:
        """The cell in words."""
        return f"cell {self.cell} of {self.n_cells}" + (f", under “{self.heading}”" if self.heading else "")


@dataclass(frozen=True)
class Execution:
    """How a notebook ended: `failure` is None if every cell finished; `cells` holds the seconds of each.

    `peak_bytes` is the most memory that the kernel and all below it were seen to take.
    """

    seconds: float
    failure: Failure | None
    cells: tuple[float, ...]
    outcome: Outcome
    peak_bytes: int = 0

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody stopped it."""
        return self.outcome == "interrupted"


def mark_cells(notebook: nbformat.NotebookNode, states: Sequence[State], seconds: Sequence[float]) -> None:
    """Write into an executed notebook how each cell ended, in place of what papermill supposes."""
    notebook.cells = [cell for cell in notebook.cells if PAPERMILL_BANNER not in cell.metadata.get("tags", [])]
    for cell, state, took in zip(notebook.cells, states, seconds, strict=True):
        cell.metadata[STATE_KEY] = {"state": state, "seconds": round(took, 3)}
        if "papermill" in cell.metadata:
            cell.metadata.papermill["status"] = PAPERMILL_STATES.get(state, "failed")
            cell.metadata.papermill["exception"] = None if state == "not run" else state != "finished"
            # papermill reads the clock, which may be set meanwhile.
            cell.metadata.papermill["duration"] = None if state == "not run" else round(took, 3)
    if "papermill" in notebook.metadata:
        notebook.metadata.papermill["duration"] = round(sum(seconds), 3)
        notebook.metadata.papermill["exception"] = any(state not in ("finished", "not run") for state in states)


def make_failure(notebook: nbformat.NotebookNode, index: int, name: str, text: str) -> Failure:
    """Say where a notebook stopped, and why."""
    cells = notebook.cells
    line = find_line(cells[index]) if cells else ""
    return Failure(index + 1, len(cells), find_heading(cells, index), line, name, text)


def describe_output(output: Any) -> str:
    """Return an output that is no stream as lines of a log."""
    if output.output_type == "error":
        return strip_colours("\n".join(output.traceback)) + "\n"
    return str(output.get("data", {}).get("text/plain", "")) + "\n"


def find_line(cell: nbformat.NotebookNode) -> str:
    """Return the line of a cell at which the error arose, from the arrow in its traceback."""
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            for entry in output.traceback:
                plain = strip_colours(entry)
                if plain.lstrip().startswith("Cell "):
                    for line in plain.splitlines():
                        if line.lstrip().startswith("-"):
                            return line.split(maxsplit=2)[-1].strip()
    return ""


def strip_colours(text: str) -> str:
    """Return a text without the terminal's colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def find_heading(cells: list[Any], index: int) -> str:
    """Return the nearest heading above a cell."""
    for cell in reversed(cells[:index]):
        if cell.cell_type == "markdown":
            for line in reversed(cell.source.splitlines()):
                if line.startswith("#"):
                    return line.lstrip("#").strip()
    return ""
