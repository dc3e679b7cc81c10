"""Run any notebook from top to bottom in a fresh kernel, with nbclient.

Unlike `labkit.run.notebook.executor`, which runs stages: no parameters, no record, and nothing is written but what the
notebook itself writes.
"""

import asyncio
import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from labkit import paths
from labkit.errors import ParamsError
from labkit.run.child_run import OF_KERNEL
from labkit.run.kernels.provisioner import make_kernel_specs
from labkit.run.notebook.event_loop import run_coroutine
from labkit.run.notebook.output_limit import OutputLimit, open_raw, shorten_file
from labkit.run.notebook.result import find_failed_line, strip_colours
from labkit.secrets.redaction import Mask

OUTPUT_SECONDS = 60
"""How long the rest of a cell's output may take to arrive after the cell has ended."""
FAILED_LINE = re.compile(r"Cell In\[\d+\], line (\d+)")


@dataclass(frozen=True)
class Stop:
    """Why a run stopped before the end: index of the cell, line in it, and the error."""

    index: int
    line: int | None
    error: str


class FreshClient(NotebookClient):
    """nbclient's client, with outputs limited as in a stage, and a kernel that is stopped on an interrupt."""

    def __init__(self, notebook: NotebookNode, raw: BinaryIO, **options: Any) -> None:
        super().__init__(notebook, **options)
        self.raw = raw
        self.output_limit = OutputLimit(Mask().reach)

    async def run_all(self, folder: Path, environment: Mapping[str, str]) -> Stop | None:
        """Run the cells until one fails; return where, None at the end."""
        self.reset_execution_trackers()
        try:
            self.km = self.create_kernel_manager()
            self.km.kernel_spec_manager = make_kernel_specs()
            # What other programs print is in the outputs as well.
            streams = {"stdout": self.raw, "stderr": self.raw}
            await self.async_start_new_kernel(cwd=str(folder), env=dict(environment), **streams)
            await self.async_start_new_kernel_client()
            for index, cell in enumerate(self.nb.cells):
                self.output_limit.start_cell()
                if stop := await self.run_one(index, cell):
                    return stop
                shorten_file(self.raw)
        finally:
            if self.km is not None:
                await asyncio.shield(self._async_cleanup_kernel())
        return None

    async def run_one(self, index: int, cell: NotebookNode) -> Stop | None:
        """Run one cell; return how it failed, None if it did not."""
        try:
            await self.async_execute_cell(cell, index)
        except CellExecutionError as error:
            shown = strip_colours("\n".join(cell.outputs[-1].get("traceback", ()))) if cell.outputs else ""
            line, source = FAILED_LINE.search(shown), find_failed_line(cell)
            named = f"{error.ename}: {next(iter(str(error.evalue).splitlines()), '')}"
            return Stop(index, int(line[1]) if line else None, f"{named} at `{source}`" if source else named)
        except CellTimeoutError:
            return Stop(index, None, f"took longer than {self.timeout} s: allow more with --cell-seconds")
        except (DeadKernelError, asyncio.CancelledError):
            # nbclient treats every cancellation as the death of the kernel.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None
            return Stop(index, None, "the kernel died")
        return None

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        """Process one message of the kernel, unless the cell has produced too much output already."""
        if not self.output_limit.admit(msg, cell.get("outputs", [])):
            return None
        return super().process_message(msg, cell, cell_index)


def run_fresh(notebook: NotebookNode, folder: Path, *, cell_seconds: int) -> tuple[NotebookNode, Stop | None]:
    """Run a copy of a notebook in a fresh kernel; return it with its outputs, and where it stopped.

    Cells tagged `raises-exception` may fail, and those tagged `skip-execution` are skipped.

    Parameters
    ----------
    folder
        Folder in which the kernel starts.
    cell_seconds
        Time limit per cell, in seconds.
    """
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    options = {"kernel_name": "python3", "timeout": cell_seconds, "iopub_timeout": OUTPUT_SECONDS}
    with open_raw() as raw:
        client = FreshClient(made, raw, **options)
        return made, run_coroutine(client.run_all(folder, make_fresh_environment()))


def make_fresh_environment() -> dict[str, str]:
    """Return the environment of a kernel that is run by hand: the pipeline's in a checkout, else this process's."""
    try:
        environment = paths.make_environment()
    except ParamsError:
        environment = paths.copy_environment()
    kept = {name: value for name, value in environment.items() if name not in (*OF_KERNEL, paths.RUN_DIR_VARIABLE)}
    return {**kept, paths.AUTORELOAD_VARIABLE: "0"}  # one version of the code, as in a run
