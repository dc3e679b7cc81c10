"""State of a notebook while it runs, its live log, and hints about memory and disk space.

Updated by `labkit.run.notebook.executor`, which executes the cells; `labkit.run.notebook.result` marks them.
"""

import errno
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import nbformat

from labkit import paths
from labkit.console import make_printable_lines
from labkit.errors import StageError
from labkit.params.experiment import TimeLimits
from labkit.run.cell_states import CellState
from labkit.run.memory import Gauge
from labkit.run.notebook.checkpoints import Checkpointer
from labkit.run.notebook.output_limit import MOST_OF_CELL, MOST_OF_NOTEBOOK, Excerpt, OutputLimit
from labkit.run.notebook.result import number_cells, strip_colours
from labkit.run.notebook.step import OUTPUTS_NAME
from labkit.run.records.ledger import release_space
from labkit.secrets.redaction import Mask
from labkit.storage.atomic import write_text
from labkit.storage.disk import describe_full

CellCallback = Callable[[int, int, str], None]
"""Called when a cell starts: its number from 1, the number of cells, the heading above it."""
LONGEST_LOG_LINE = 100_000
"""Characters of an unfinished line that are buffered, to be written as a whole."""
MEMORY_HINT = "try fewer rows (--sample), fewer columns or a smaller model"


@dataclass
class Live:
    """What goes on beside the cells of a running notebook.

    Attributes
    ----------
    log
        Receives each cell's heading and output at once.
    on_memory
        Called repeatedly with the bytes of memory that the kernel and its descendants use.
    checkpointer
        Keeps the state before a cell that fails, or holds the state to continue from; None: neither.
    """

    log: TextIO | None = None
    on_memory: Callable[[int], None] = lambda _: None
    checkpointer: Checkpointer | None = None


@dataclass
class RunningNotebook:
    """State of one notebook while it runs.

    Attributes
    ----------
    raw
        Output of the kernel's process that is not part of a cell's output.
    states, seconds
        For each cell, including the injected parameters.
    error
        Name and message of the exception that a cell raised.
    checkpointer
        Takes checkpoints of the kernel, and holds the one to continue from.
    """

    on_cell: CellCallback
    environment: Mapping[str, str]
    limits: TimeLimits
    live: Live
    mask: Mask
    raw: BinaryIO
    checkpointer: Checkpointer
    started: float = field(default_factory=time.monotonic)
    states: list[CellState] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    is_allowed_to_exit: bool = False
    limit: str = ""
    exit_code: int | None = None
    unfinished: str = ""
    error: tuple[str, str] | None = None
    gauge: Gauge = field(default_factory=Gauge)
    notebook: Any = None
    full_disk: str = ""

    def __post_init__(self) -> None:
        self.output_limit = OutputLimit(self.mask.reach)
        # A separate mask: secrets in the log also occur in the outputs, where the other mask counts them.
        self.log_mask = Mask(self.mask.secrets)
        self.n_logged = 0
        self.start_log()

    def find_limit(self) -> float:
        """Return how long the next cell may take, in seconds, and remember which parameter limits it."""
        left = self.started + self.limits.stage_seconds - time.monotonic()
        self.limit = "stage_seconds" if left < self.limits.cell_seconds else "cell_seconds"
        return max(0.1, min(left, self.limits.cell_seconds))

    def start_log(self) -> None:
        """Start the next part of the live log: a cell, or other output of the kernel's process."""
        self.n_allowed = min(MOST_OF_CELL, MOST_OF_NOTEBOOK - self.n_logged)
        self.excerpt = Excerpt(self.n_allowed, self.mask.reach)

    def log_output(self, output: str) -> None:
        """Write output to the live log until the limit of its part is reached."""
        was_whole = not self.excerpt.n_cut
        self.write(self.excerpt.take(output))
        if was_whole and self.excerpt.n_cut:
            self.write("\n… further output is left out, except its end …\n")

    def end_log(self) -> None:
        """End a part of the live log with its last line, and with the end of the output if that was too long."""
        self.write(self.excerpt.close())
        if self.unfinished:
            self.write("\n")
        self.n_logged += self.n_allowed - self.excerpt.n_left

    def write(self, content: str) -> None:
        """Write to the live log by whole lines, because a secret may arrive in two parts."""
        if self.live.log is None or not content:
            return
        content = self.unfinished + content.replace("\r\n", "\n").replace("\r", "\n")
        end = content.rfind("\n") + 1
        if len(content) - end > LONGEST_LOG_LINE:
            end = len(content) - self.mask.reach
        self.unfinished = content[end:]
        try:
            self.live.log.write(make_printable_lines(strip_colours(self.log_mask.clean_text(content[:end]))))
            self.live.log.flush()
        except OSError:
            # On a full disk the run fails and reports it anyway.
            self.live.log = None


def save_on_full_disk(executed: Path, running: RunningNotebook) -> None:
    """Delete what the notebook wrote, which is discarded anyway, to free disk space for the executed notebook."""
    if folder := running.environment.get(paths.RUN_DIR_VARIABLE):
        shutil.rmtree(Path(folder) / OUTPUTS_NAME, ignore_errors=True)
    executed.unlink(missing_ok=True)
    release_space()
    try:
        write_text(executed, nbformat.writes(running.notebook) + "\n")
    except OSError as error:
        raise StageError(f"{running.full_disk}; the executed notebook is lost") from error


def describe_death(running: RunningNotebook, otherwise: str) -> str:
    """Describe how and where the kernel died, and the probable cause."""
    code = running.exit_code
    if code is None:
        return otherwise
    where = ""
    if running.notebook is not None and "died" in running.states:
        where = f" in cell {number_cells(running.notebook.cells)[running.states.index('died')]}"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    if code != -signal.SIGKILL:
        return f"the kernel died{where} ({how})"
    guess = "probably out of memory, unless somebody killed it"
    return f"the kernel died{where} ({how}; {running.gauge.describe()}): {guess}: {MEMORY_HINT}"


def find_hint(name: str, message: str, running: RunningNotebook) -> str:
    """Return a remedy if memory or disk space ran out, empty for other errors."""
    if name.endswith("MemoryError"):
        return f" ({running.gauge.describe()}): {MEMORY_HINT}"
    if f"[Errno {errno.ENOSPC}]" in message:
        return f": {describe_full(paths.find_root(), 'more')}"
    return ""
