"""What a person at a terminal sees while stages run, and the table at the end.

On a terminal one live line per running stage; elsewhere plain lines, so that logs stay readable.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Line:
    """One stage in the closing table: `outcome` is `ran`, `cached`, `failed`, `interrupted` or `not run`."""

    stage: str
    outcome: str
    seconds: float | None
    headline: str


class Progress:
    """Tells of stages and cells as they come."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.status: Status | None = None
        self.stage = ""
        self.started = 0.0

    def start_stage(self, stage: str) -> None:
        """Say that a stage starts."""
        self.stage, self.started = stage, time.monotonic()
        if self.console.is_terminal:
            self.status = self.console.status(f"[bold]{stage}[/bold]")
            self.status.start()
        else:
            self.console.print(f"{stage} …", soft_wrap=True)

    def start_cell(self, cell: int, n_cells: int, heading: str) -> None:
        """Say that a cell starts."""
        if self.status:
            elapsed = time.monotonic() - self.started
            told = Text(self.stage, style="bold")
            told.append(f"  cell {cell}/{n_cells}  {elapsed:.0f} s  {heading}", style="not bold")
            self.status.update(told)

    def end_stage(self, outcome: str, headline: str = "") -> None:
        """Say how a stage ended."""
        if self.status:
            self.status.stop()
            self.status = None
        seconds = time.monotonic() - self.started
        colour = "green" if outcome == "ran" else "red"
        line = Text(f"{self.stage:<12}", style=colour)
        line.append(f" {outcome:<11} {seconds:6.1f} s  {headline}", style="default")
        self.console.print(line, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True, markup=False)

    def show_table(self, experiment: str, lines: Iterable[Line]) -> None:
        """Print the closing table."""
        table = Table(title=experiment, title_justify="left", header_style="bold")
        table.add_column("stage")
        table.add_column("this time")
        table.add_column("seconds", justify="right")
        table.add_column("result", overflow="fold")
        for line in lines:
            seconds = "" if line.seconds is None else f"{line.seconds:.1f}"
            table.add_row(line.stage, line.outcome, seconds, Text(line.headline))
        self.console.print(table)
