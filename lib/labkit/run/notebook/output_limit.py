"""Limits on a notebook's output, so that a cell that prints in an infinite loop fills neither disk nor memory.

Of printed output the beginning and the end are kept, with a line between them that shows how much is missing; of plots
and tables the first ones. Outputs are added to the notebook by `labkit.run.notebook.executor`.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from nbformat import NotebookNode
from nbformat.v4 import new_output

from labkit.units import format_count

MOST_OF_CELL = 10_000_000
MOST_OF_NOTEBOOK = 40_000_000
"""Characters of output kept. Jupyter can still open a notebook of that size, and a page shows less of it."""
MOST_OF_TAIL = 20_000
"""Characters kept of the end: more than a page shows."""
LONGEST_CUT_LINE = 2_000
"""Longest incomplete line, in characters, that is left out at a cut."""
LONGEST_ERROR = 100_000
"""Characters kept of an error's message, and of each part of its traceback."""
COST = 300
"""Characters added for each output: a million outputs of one character fill a disk, too."""
RESERVE = 500_000
"""Characters that printed output leaves for other outputs of its cell, such as a result or an error at the end."""
LINE_COST = 12
"""Characters added for each printed line: a notebook stores each as a separate string."""
MOST_OF_RAW = 1_000_000
"""Bytes kept of other output of the kernel's process; most of it is in the cells' outputs as well."""
OUTPUT_TYPES = ("stream", "display_data", "update_display_data", "execute_result", "error")


@dataclass
class Excerpt:
    """The beginning and the end of output that arrives in pieces.

    Parameters
    ----------
    n_left
        Characters that still belong to the beginning.
    reach
        Length of the longest secret: without a line end near a cut, this much is left out, so that none shows in part.
    line_cost
        Characters added for each line end.
    """

    n_left: int
    reach: int
    line_cost: int = 0
    n_cut: int = 0
    tail: str = ""

    def take(self, piece: str) -> str:
        """Add a piece; return the part of it that belongs to the beginning."""
        size = len(piece) + self.line_cost * piece.count("\n")
        if not self.n_cut and size <= self.n_left:
            self.n_left -= size
            return piece
        head = trim_end(piece[: len(piece) * self.n_left // max(size, 1)], self.reach)
        self.n_left = 0
        self.n_cut += len(piece) - len(head)
        self.tail = (self.tail + piece[len(head) :][-MOST_OF_TAIL:])[-MOST_OF_TAIL:]
        return head

    @property
    def end(self) -> str:
        """The end that is kept."""
        return self.tail if self.n_cut == len(self.tail) else trim_start(self.tail, self.reach)

    @property
    def n_missing(self) -> int:
        """Characters left out between the beginning and the end."""
        return self.n_cut - len(self.end)

    def close(self) -> str:
        """Return the end, after a line that shows how much is missing, if anything is."""
        return f"\n{describe_cut(self.n_missing)}\n{self.end}" if self.n_missing else self.end


def trim_end(output: str, reach: int) -> str:
    """Return cut output without its incomplete last line, or without part of that if it is long."""
    return output[: output.rfind("\n", max(0, len(output) - LONGEST_CUT_LINE)) + 1 or max(0, len(output) - reach)]


def trim_start(output: str, reach: int) -> str:
    """Return cut output without its incomplete first line, or without part of that if it is long."""
    return output[output.find("\n", 0, LONGEST_CUT_LINE) + 1 or reach :]


def describe_cut(n_characters: int, n_outputs: int = 0) -> str:
    """Describe how much output is left out.

    >>> describe_cut(153_000_000), describe_cut(0, 1)
    ('… 153,000,000 characters of output are left out …', '… 1 output is left out …')
    """
    parts = [f"{format_count(n_characters, 'character')} of output"] if n_characters else []
    parts += [format_count(n_outputs, "further output" if parts else "output")] if n_outputs else []
    is_one = n_characters + n_outputs == 1
    return f"… {' and '.join(parts)} {'is' if is_one else 'are'} left out …"


@dataclass
class OutputLimit:
    """Limits the outputs of one notebook, cell by cell.

    Attributes
    ----------
    n_left
        Characters that later cells may output.
    cut
        Description of what was left out, by index of the cell.
    """

    reach: int
    n_left: int = field(default_factory=lambda: MOST_OF_NOTEBOOK)
    cut: dict[int, str] = field(default_factory=dict)

    def start_cell(self) -> None:
        """Begin a new cell."""
        self.cell_limit = min(MOST_OF_CELL, self.n_left)
        self.clear()

    def clear(self) -> None:
        """Forget the cell's output so far, because the cell cleared it."""
        self.n_left_in_cell, self.is_clearing = self.cell_limit, False
        self.ends: dict[str, Excerpt] = {}
        self.error: dict[str, Any] | None = None
        self.n_dropped = 0

    def admit(self, message: dict[str, Any], outputs: list[Any]) -> bool:
        """Return whether to process a message of the kernel; shortens a printed string in it if necessary."""
        kind, content = message["msg_type"], message["content"]
        if kind == "clear_output":
            self.is_clearing = bool(content.get("wait"))
            if not self.is_clearing:
                self.clear()
        if kind not in OUTPUT_TYPES:
            return True
        if self.is_clearing and kind != "update_display_data":
            self.clear()
        if kind == "stream":
            return self.admit_stream(content, outputs)
        return self.admit_whole(kind, content)

    def admit_whole(self, kind: str, content: dict[str, Any]) -> bool:
        """Return whether an output that cannot be cut fits; the last error is always kept."""
        if kind == "error":
            shorten_error(content)
        size = count_characters(content) + COST
        if kind == "update_display_data":
            # It replaces an earlier output.
            return size <= self.cell_limit
        if size <= self.n_left_in_cell:
            self.n_left_in_cell -= size
            return True
        self.n_dropped += 1
        self.error = content if kind == "error" else self.error
        return False

    def admit_stream(self, content: dict[str, Any], outputs: list[Any]) -> bool:
        """Shorten a printed string to what fits; return whether anything is left."""
        name, printed = content["name"], content["text"]
        if name not in self.ends:
            size = len(printed) + COST + LINE_COST * printed.count("\n")
            if size <= self.n_left_in_cell - RESERVE and not self.ends:
                self.n_left_in_cell -= size
                return True
            self.ends[name] = Excerpt(0 if self.ends else max(0, self.n_left_in_cell - RESERVE), self.reach, LINE_COST)
            self.n_left_in_cell = min(self.n_left_in_cell, RESERVE)
            content["text"] = self.ends[name].take(printed)
            if not content["text"] and outputs and outputs[-1].output_type == "stream":
                # The previous output may end in the middle of a line, and thus of a secret.
                outputs[-1].text = trim_end(outputs[-1].text, self.reach)
        else:
            content["text"] = self.ends[name].take(printed)
        return bool(content["text"])

    def end_cell(self, index: int, outputs: list[Any]) -> list[NotebookNode]:
        """Return outputs that show what was left out, and describe it in `cut`."""
        self.n_left -= min(self.n_left, sum(map(count_characters, outputs)))
        added = [new_output("stream", name=name, text=end.close()) for name, end in self.ends.items() if end.n_cut]
        n_missing = sum(end.n_missing for end in self.ends.values())
        n_dropped = self.n_dropped - bool(self.error)
        if n_dropped:
            added.append(new_output("stream", name="stdout", text=f"\n{describe_cut(0, n_dropped)}\n"))
        if n_missing or n_dropped:
            self.cut[index] = describe_cut(n_missing, n_dropped).strip("… ")
        if self.error:
            added.append(new_output("error", **self.error))
        return added


@contextmanager
def open_raw() -> Iterator[BinaryIO]:
    """Yield a file for other output of the kernel's process; in append mode, so that it can be truncated."""
    with tempfile.TemporaryFile() as raw:
        with suppress(OSError, ImportError):
            import fcntl

            fcntl.fcntl(raw, fcntl.F_SETFL, fcntl.fcntl(raw, fcntl.F_GETFL) | os.O_APPEND)
        yield raw


def shorten_file(raw: BinaryIO) -> None:
    """Truncate the file of `open_raw` to the size that is kept."""
    with suppress(OSError):
        if os.fstat(raw.fileno()).st_size > MOST_OF_RAW:
            os.ftruncate(raw.fileno(), MOST_OF_RAW)


def shorten_error(content: dict[str, Any]) -> None:
    """Shorten the message and traceback of an error if they are very long."""
    content["evalue"] = cut_middle(str(content.get("evalue", "")))
    content["traceback"] = [cut_middle(str(part)) for part in content.get("traceback", [])]


def cut_middle(message: str) -> str:
    """Return a string without its middle if it is very long."""
    if len(message) <= LONGEST_ERROR:
        return message
    half = LONGEST_ERROR // 2
    return f"{message[:half]} {describe_cut(len(message) - 2 * half)} {message[-half:]}"


def count_characters(value: Any) -> int:
    """Return the approximate length of plain data in JSON, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(str(key)) + count_characters(item) for key, item in value.items())
    if isinstance(value, Iterable):
        return sum(count_characters(item) + 1 for item in value)
    return 8
