"""The progress display while stages run, and the closing table.

On a terminal, one live line for the running stage; elsewhere plain lines, so that logs stay readable.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from labkit.console import guard_streams, make_cell, make_column, make_console, make_printable, print_table, wrap_words
from labkit.errors import shorten
from labkit.run.memory import GIGABYTE

LONGEST_HEADING = 100


@dataclass(frozen=True)
class Line:
    """One stage in the closing table.

    `outcome` is `ran`, `up to date`, `restored`, `failed`, `interrupted` or `not run`.
    """

    stage: str
    outcome: str
    seconds: float | None
    headline: str


class Progress:
    """Shows the running stage and cell, and how long they took the last time."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self.bar: Bar | None = None
        self.stage = ""
        self.heading = ""
        self.expected: Sequence[float] = ()
        self.started = 0.0
        self.peak_bytes = 0

    def start_stage(self, stage: str, expected: Sequence[float] = ()) -> None:
        """Show that a stage starts; `expected` holds the seconds that each of its cells took the last time."""
        self.stage, self.heading, self.expected, self.started = stage, "", expected, time.monotonic()
        self.peak_bytes = 0
        about = f" (about {sum(expected):.0f} s)" if expected else ""
        if not self.console.is_terminal:
            self.show(f"{stage} …{about}")
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, style="bold"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[cell]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[about]}"),
            TextColumn("{task.fields[memory]}"),
            TextColumn("{task.fields[heading]}", markup=False, style="dim"),
        )
        self.bar = Bar(*columns, console=self.console, transient=True)
        self.bar.add_task(stage, total=sum(expected) or None, cell="", about=about.strip(" ()"), memory="", heading="")
        self.bar.start()
        # rich puts a stream of its own before ours, which reads escape sequences instead of showing them.
        guard_streams()

    def start_cell(self, cell: int, n_cells: int, heading: str) -> None:
        """Show that a cell starts; without a terminal, only the first under each heading."""
        heading = make_printable(shorten(heading, LONGEST_HEADING))
        is_known = len(self.expected) == n_cells
        if self.bar:
            done, total = (sum(self.expected[: cell - 1]), sum(self.expected)) if is_known else (cell - 1, n_cells)
            task = self.bar.task_ids[0]
            self.bar.update(task, completed=done, total=total, cell=f"cell {cell}/{n_cells}", heading=heading)
        elif heading != self.heading:
            elapsed = time.monotonic() - self.started
            self.show(f"  cell {cell}/{n_cells}  {elapsed:.0f} s  {heading}")
        self.heading = heading

    def show_memory(self, taken_bytes: int) -> None:
        """Show the memory of the kernel; without a terminal, only the peak, at the end of the stage."""
        self.peak_bytes = max(self.peak_bytes, taken_bytes)
        if self.bar:
            self.bar.update(self.bar.task_ids[0], memory=f"{taken_bytes / GIGABYTE:.1f} GB")

    def end_stage(self, outcome: str, headline: str = "") -> None:
        """Show how a stage ended."""
        if self.bar:
            self.bar.stop()
            self.bar = None
        seconds = time.monotonic() - self.started
        colour = "green" if outcome == "ran" else "red"
        line = make_cell(f"{self.stage:<12}", colour)
        memory = f"{self.peak_bytes / GIGABYTE:4.1f} GB  " if self.peak_bytes else " " * 9
        line.append(f" {outcome:<11} {seconds:6.1f} s  {memory}", style="default")
        result = wrap_words(make_printable(shorten(headline)), indent=len(line), console=self.console)
        line.append(result, style="default")
        self.console.print(line, soft_wrap=True)

    def show(self, line: str) -> None:
        """Print a line."""
        self.console.print(make_cell(line), soft_wrap=not self.console.is_terminal)

    def show_table(self, experiment: str, lines: Iterable[Line]) -> None:
        """Print a table of the stages that did not run; each of the others has a line already."""
        rows = [(line.stage, line.outcome, make_printable(line.headline)) for line in lines if line.seconds is None]
        if rows:
            headings = ("stage", "this time", make_column("latest result", is_folded=True))
            print_table(headings, rows, title=experiment, console=self.console)
