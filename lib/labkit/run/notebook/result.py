"""How the cells of an executed notebook ended, and why it stopped.

Reads and marks executed notebooks; `labkit.run.notebook.executor` executes them.
"""

import errno
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import nbformat

from labkit import errors
from labkit.errors import LabkitError
from labkit.run.cell_states import INJECTED, CellState, remove_banners, set_state
from labkit.units import format_count

NotebookOutcome = Literal["finished", "failed", "interrupted", "timed out", "died"]
ALLOW_EXIT = "allow-exit"
"""Tag of a cell that may end the notebook early with `sys.exit()`."""
GROUP_BEGIN = "  + Exception Group Traceback (most recent call last):"
GROUP_LINE = re.compile(r'^  \| +File "[^"]*ipykernel_[^"]*", line \d+, in .*\n  \| +(.*)', re.MULTILINE)
"""The first line of a cell in the traceback of an exception group, with its source."""
GROUP_COUNT = re.compile(r" \((\d+) sub-exceptions?\)$")
MEMBER_BEGIN = re.compile(r"(  \+-|    )\+-{16} (\d+|\.{3}) -{16}")
MEMBER_BAR = "    |"
MOST_MEMBERS = 3
FULL_DISK = f"[Errno {errno.ENOSPC}]"
# papermill's own names of states, for other readers of the executed notebook.
PAPERMILL_STATES = {"finished": "completed", "not run": "pending"}


@dataclass(frozen=True)
class Failure:
    """Why a notebook stopped."""

    cell: int
    n_cells: int
    heading: str
    line: str
    error_name: str
    error_message: str

    @property
    def summary(self) -> str:
        """The error's first line."""
        return next(iter(self.error_message.splitlines()), self.error_name)

    @property
    def cause(self) -> Exception | None:
        """The error in the kernel as one here, if it is one of labkit's or a full disk."""
        kind = getattr(errors, self.error_name, None)
        if isinstance(kind, type) and issubclass(kind, LabkitError):
            return kind(self.summary)
        is_full = self.error_name == "OSError" and ("disk full:" in self.summary or FULL_DISK in self.summary)
        return OSError(errno.ENOSPC, self.summary) if is_full else None

    @property
    def place(self) -> str:
        """The position of the cell, in words."""
        return f"cell {self.cell} of {self.n_cells}" + (f", under “{self.heading}”" if self.heading else "")


@dataclass(frozen=True)
class Execution:
    """How a notebook ended: `failure` is None if every cell finished; `cells` holds the seconds of each of its own.

    `peak_bytes` is the largest measured memory of the kernel and its descendants. `cut` lists the cells whose output
    was shortened, and by how much.
    """

    seconds: float
    failure: Failure | None
    cells: tuple[float, ...]
    outcome: NotebookOutcome
    peak_bytes: int = 0
    cut: str = ""

    @property
    def is_interrupted(self) -> bool:
        """Whether the user interrupted it."""
        return self.outcome == "interrupted"


def mark_cells(notebook: nbformat.NotebookNode, states: Sequence[CellState], seconds: Sequence[float]) -> None:
    """Store in an executed notebook how each cell ended, replacing papermill's own marks."""
    remove_banners(notebook)
    for cell, state, took in zip(notebook.cells, states, seconds, strict=True):
        set_state(cell, state, took)
        if "papermill" in cell.metadata:
            cell.metadata.papermill["status"] = PAPERMILL_STATES.get(state, "failed")
            cell.metadata.papermill["exception"] = None if state == "not run" else state != "finished"
            # papermill uses the wall clock, which may be adjusted meanwhile.
            cell.metadata.papermill["duration"] = None if state == "not run" else round(took, 3)
    if "papermill" in notebook.metadata:
        notebook.metadata.papermill["duration"] = round(sum(seconds), 3)
        notebook.metadata.papermill["exception"] = any(state not in ("finished", "not run") for state in states)


def number_cells(cells: Sequence[nbformat.NotebookNode]) -> list[int]:
    """Return the number of each cell as in JupyterLab; the cell that papermill adds has that of the cell before it."""
    numbers, number = [], 0
    for cell in cells:
        number += INJECTED not in cell.metadata.get("tags", [])
        numbers.append(max(number, 1))
    return numbers


def make_failure(notebook: nbformat.NotebookNode, index: int, name: str, message: str) -> Failure:
    """Return where a notebook stopped, and why."""
    cells = notebook.cells
    line = find_failed_line(cells[index]) if cells else ""
    numbers = number_cells(cells) or [1]
    return Failure(numbers[index], numbers[-1], find_heading(cells, index), line, name, message)


def describe_message(message: Mapping[str, Any]) -> str:
    """Return the output in a kernel's message as plain text for a log, empty for other messages."""
    content = message["content"]
    if message["msg_type"] == "stream":
        return str(content["text"])
    if message["msg_type"] == "error":
        return strip_colours("\n".join(map(str, content["traceback"]))) + "\n"
    if message["msg_type"] in ("display_data", "execute_result"):
        return str(content["data"].get("text/plain", "")) + "\n"
    return ""


def is_idle_after(message: Mapping[str, Any], request: str) -> bool:
    """Return whether a message reports that the kernel has finished a request."""
    return message["parent_header"].get("msg_id") == request and message["content"].get("execution_state") == "idle"


def find_failed_line(cell: nbformat.NotebookNode) -> str:
    """Return the source line that raised a cell's last error, as its traceback marks it."""
    for output in reversed(cell.get("outputs", [])):
        if output.output_type == "error":
            for entry in output.traceback:
                plain = strip_colours(entry)
                if plain.lstrip().startswith("Cell "):
                    for line in plain.splitlines():
                        if line.lstrip().startswith("-"):
                            return line.split(maxsplit=2)[-1].strip()
                if found := GROUP_LINE.search(plain):
                    return found[1].strip()
    return ""


def report_exit(*, execute_reply: dict[str, Any], **_: Any) -> None:
    """Make an error of a cell's reply that ends the kernel, as IPython's `exit()` and `quit()` ask for.

    The kernel would otherwise finish the cell, reply that it succeeded, and die during the cells that follow.
    """
    content = execute_reply["content"]
    if content["status"] == "ok" and any(one.get("source") == "ask_exit" for one in content.get("payload", [])):
        message = "exit() or quit() was called"
        content |= {"status": "error", "ename": "SystemExit", "evalue": message, "traceback": []}


def add_error(outputs: list[Any], name: str, message: str) -> None:
    """Add an error output for an exception group that a cell raised, which IPython only prints.

    Parameters
    ----------
    outputs
        Outputs of the cell; the group's traceback, printed last, is moved into the error.
    name, message
        Name and message of the group as the kernel reports them, such as "several (2 sub-exceptions)".
    """
    printed = [place for place, one in enumerate(outputs) if one.output_type == "stream" and one.name == "stderr"]
    first = next((place for place in reversed(printed) if GROUP_BEGIN in outputs[place].text), None)
    traceback = ""
    if first is not None:
        moved = [place for place in printed if place >= first]
        kept, begin, rest = outputs[first].text.rpartition(GROUP_BEGIN)
        traceback = begin + rest + "".join(outputs[place].text for place in moved[1:])
        outputs[first].text = kept
        outputs[:] = [one for place, one in enumerate(outputs) if place not in moved or (place == first and kept)]
    outputs.append(
        nbformat.v4.new_output("error", ename=name, evalue=describe_group(message, traceback), traceback=[traceback])
    )


def describe_group(message: str, traceback: str) -> str:
    r"""Return the message of an exception group with its first members.

    >>> describe_group("several (1 sub-exception)", "  +-+---------------- 1 ----------------\n    | KeyError: 'two'")
    "several (1 exception): KeyError: 'two'"
    """
    members = list_members(traceback)
    found = GROUP_COUNT.search(message)
    if not members or not found:
        return message
    rest = int(found[1]) - MOST_MEMBERS
    shown = "; ".join(members[:MOST_MEMBERS]) + (f"; … and {rest} more" if rest > 0 else "")
    return f"{message[: found.start()]} ({format_count(int(found[1]), 'exception')}): {shown}"


def list_members(traceback: str) -> list[str]:
    """Return type and message of each exception in a group, from the traceback that Python prints.

    A member's lines start with a bar; those of nested groups are indented further.
    """
    members: list[str] = []
    for line in traceback.splitlines():
        if MEMBER_BEGIN.fullmatch(line):
            members.append("")
        elif members and line.startswith(MEMBER_BAR):
            content = line.removeprefix(MEMBER_BAR).removeprefix(" ")
            if content.endswith("Traceback (most recent call last):"):
                members[-1] = ""  # the lines before were its cause
            elif not members[-1] and not content.startswith(" "):
                members[-1] = content
    return [member for member in members if member]


def strip_colours(output: str) -> str:
    """Return output without terminal colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", output)


def find_heading(cells: list[Any], index: int) -> str:
    """Return the nearest heading above a cell."""
    for cell in reversed(cells[:index]):
        if cell.cell_type == "markdown":
            for line in reversed(cell.source.splitlines()):
                if line.startswith("#"):
                    return line.lstrip("#").strip()
    return ""
