"""What happens to the cells of one notebook while it runs, who looks on, and what is said of memory and disk.

Filled in by `labkit.run.notebook.executor`, which executes; how a cell is marked is in `labkit.run.notebook.result`.
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
from labkit.run.notebook.output_limit import MOST_OF_CELL, MOST_OF_NOTEBOOK, Excerpt, OutputLimit
from labkit.run.notebook.result import strip_colours
from labkit.run.notebook.step import OUTPUTS_NAME
from labkit.run.records.ledger import release_space
from labkit.secrets.redaction import Mask
from labkit.storage.atomic import write_text
from labkit.storage.disk import describe_full

CellCallback = Callable[[int, int, str], None]
"""Called as each cell starts: its number from 1, the number of cells, the heading it stands under."""
LONGEST_LOG_LINE = 100_000
"""Characters of an unfinished line that are held back, to be written as a whole."""
MEMORY_HINT = "try fewer rows (--sample), fewer columns or a smaller model"


@dataclass
class Live:
    """Who looks on while a notebook runs.

    Attributes
    ----------
    log
        Told of each cell and each output as it comes.
    on_memory
        Called now and then with the bytes of memory that the kernel and all below it take.
    """

    log: TextIO | None = None
    on_memory: Callable[[int], None] = lambda _: None


@dataclass
class RunningNotebook:
    """What happens to the cells of one notebook, filled in as it runs.

    Attributes
    ----------
    raw
        What the kernel's process says beside its outputs.
    states, seconds
        By cell, in the order of the notebook with the injected parameters in it.
    error
        Name and text of what a cell raised.
    """

    on_cell: CellCallback
    environment: Mapping[str, str]
    limits: TimeLimits
    live: Live
    mask: Mask
    raw: BinaryIO
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
        # Of its own: what it finds in the log, the other one finds in the outputs, and counts.
        self.log_mask = Mask(self.mask.secrets)
        self.n_logged = 0
        self.start_log()

    def find_limit(self) -> float:
        """Return how long the next cell may take, in seconds, and note which parameter says so."""
        left = self.started + self.limits.stage_seconds - time.monotonic()
        self.limit = "stage_seconds" if left < self.limits.cell_seconds else "cell_seconds"
        return max(0.1, min(left, self.limits.cell_seconds))

    def start_log(self) -> None:
        """Start the next part of the live log: a cell, or what the kernel's process writes beside its outputs."""
        self.n_allowed = min(MOST_OF_CELL, MOST_OF_NOTEBOOK - self.n_logged)
        self.excerpt = Excerpt(self.n_allowed, self.mask.reach)

    def log_output(self, output: str) -> None:
        """Write to the live log what still belongs to the beginning of its part."""
        was_whole = not self.excerpt.n_cut
        self.write(self.excerpt.take(output))
        if was_whole and self.excerpt.n_cut:
            self.write("\n… what comes now is left out, but for its end …\n")

    def end_log(self) -> None:
        """End a part of the live log: with what was left unfinished, and if it was too long with its end."""
        self.write(self.excerpt.close())
        if self.unfinished:
            self.write("\n")
        self.n_logged += self.n_allowed - self.excerpt.n_left

    def write(self, content: str) -> None:
        """Write to the live log, line by line: a secret may come in two parts of a line."""
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
            # On a full disk the run fails of its own accord, and says so; nobody needs the log for that.
            self.live.log = None


def save_on_full_disk(executed: Path, running: RunningNotebook) -> None:
    """Give up what the notebook wrote, of which nothing will be kept, to have room for saying what happened."""
    if folder := running.environment.get(paths.RUN_DIR_VARIABLE):
        shutil.rmtree(Path(folder) / OUTPUTS_NAME, ignore_errors=True)
    executed.unlink(missing_ok=True)
    release_space()
    try:
        write_text(executed, nbformat.writes(running.notebook) + "\n")
    except OSError as error:
        raise StageError(f"{running.full_disk}; the executed notebook is lost") from error


def describe_death(running: RunningNotebook, otherwise: str) -> str:
    """Say how and where the kernel died, and of what, if that can be guessed."""
    code = running.exit_code
    if code is None:
        return otherwise
    cell = running.states.index("died") + 1 if "died" in running.states else 0
    where = f" in cell {cell}" if cell else ""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    if code != -signal.SIGKILL:
        return f"the kernel died{where} ({how})"
    guess = "probably out of memory, unless somebody killed it"
    return f"the kernel died{where} ({how}; {running.gauge.describe()}): {guess}: {MEMORY_HINT}"


def find_hint(name: str, message: str, running: RunningNotebook) -> str:
    """Say what to do about memory or disk space that runs out, empty for other errors."""
    if name.endswith("MemoryError"):
        return f" ({running.gauge.describe()}): {MEMORY_HINT}"
    if f"[Errno {errno.ENOSPC}]" in message:
        return f": {describe_full(paths.find_root(), 'more')}"
    return ""
