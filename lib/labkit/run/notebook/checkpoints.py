"""Checkpoints of a running notebook: when the runner asks the kernel for one, and what it remembers with it.

The kernel keeps the memory: see `labkit.run.kernels.paused_kernel`. The runner remembers what is outside of it: outputs
of cells and the files of the run's folder. `labkit.run.pipeline.resume` keeps both after a failure, and decides whether
a later run may continue there.
"""

import copy
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat

from labkit import paths
from labkit.run.fingerprint.footprint import load_footprint
from labkit.run.kernels import process_tree
from labkit.run.kernels.checkpoint import REQUEST
from labkit.run.memory import KEPT_NAME, find_free
from labkit.run.notebook.result import is_idle_after
from labkit.run.notebook.work_files import WorkFile, note_files
from labkit.run.tracing.trace import TRACE_NAME

LEAST_PER_COST = 100
"""Cells must have run this many times as long as the last checkpoint took, so that checkpoints cost at most 1 %."""
LONGEST_SECONDS = 60
KEEP_SECONDS = 5
MEMORY_SHARE = 0.5
"""Largest share of the free memory that a kernel may use to be copied: what it changes afterwards exists twice."""


@dataclass(frozen=True)
class KeptCell:
    """A code cell that ran before a checkpoint: how it was written, and what came of it."""

    source: str
    tags: tuple[str, ...]
    outputs: Sequence[Mapping[str, Any]]
    execution_count: int | None
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """The state of a notebook before one of its cells.

    Attributes
    ----------
    cells
        All code cells above, in order.
    displays
        The places of outputs that later cells may update, as nbclient notes them: by cell and output.
    pid, address
        The paused copy of the kernel.
    modules
        Files of the checkout's and labkit's modules that it has loaded.
    files
        The files of the run's folder.
    """

    cells: tuple[KeptCell, ...]
    displays: Mapping[str, Sequence[tuple[int, int]]]
    pid: int
    address: str
    modules: tuple[str, ...] = ()
    files: Mapping[str, WorkFile] = field(default_factory=dict)


@dataclass
class Checkpointer:
    """Takes checkpoints of one notebook while it runs.

    Parameters
    ----------
    work
        The run's folder.
    least_seconds
        How long cells must have run since the beginning, or since the last checkpoint; None: never take one.
    start
        The checkpoint from which this run continues.
    """

    work: Path
    least_seconds: float | None
    start: Checkpoint | None = None
    latest: Checkpoint | None = None
    obstacle: str = ""
    unsaved_seconds: float = 0.0
    cost_seconds: float = 0.0
    is_kept: bool = False

    @property
    def options(self) -> dict[str, Path]:
        """How to start the kernel: the address of the checkpoint to continue from, if there is one."""
        return {"checkpoint": Path(self.start.address)} if self.start else {}

    def is_due(self) -> bool:
        """Return whether a checkpoint is worth it for what cells did since the last; with 0 seconds it always is."""
        if self.least_seconds is None or not self.unsaved_seconds:
            return False
        cost = LEAST_PER_COST * self.cost_seconds if self.least_seconds else 0
        return self.unsaved_seconds >= max(self.least_seconds, cost)

    def keep(self) -> None:
        """Have the latest checkpoint outlive the kernel, because a cell failed."""
        self.is_kept = self.latest is not None and keep_process(self.latest.pid)

    def discard(self) -> None:
        """End the checkpoint that was to be kept, because it is of no use."""
        if self.is_kept and self.latest:
            with suppress(ProcessLookupError):
                os.kill(self.latest.pid, signal.SIGTERM)

    async def take(self, client: Any, index: int) -> None:
        """Take a checkpoint before a cell if it is due; where that is not possible, an earlier one remains.

        Parameters
        ----------
        client
            Client of the running notebook, connected to the kernel, which is idle.
        index
            Place of the cell among all cells.
        """
        if client.nb.cells[index].cell_type != "code" or not self.is_due():
            return
        started = time.monotonic()
        client.look_at_memory()
        if why_not := find_side_effect(self.work):
            self.obstacle = why_not
        elif client.comm_objects or client.widget_state:
            self.obstacle = "it shows widgets"
        elif client.running.gauge.now_bytes > MEMORY_SHARE * find_free():
            self.obstacle = "there is not enough memory for a copy of its kernel"
        else:
            reply = await ask_for_checkpoint(client)
            self.obstacle = str(reply.get("obstacle", ""))
            if not self.obstacle:
                self.latest = make_checkpoint(reply, client, index, note_files(self.work))
        self.unsaved_seconds, self.cost_seconds = 0.0, time.monotonic() - started


def make_checkpoint(reply: Mapping[str, Any], client: Any, index: int, files: Mapping[str, WorkFile]) -> Checkpoint:
    """Return what the runner remembers of a checkpoint before a cell."""
    return Checkpoint(
        tuple(copy_cells(client.nb.cells[:index], client.running.seconds)),
        number_displays(client._display_id_map, client.nb.cells),
        int(reply["pid"]),
        str(reply["address"]),
        tuple(reply["modules"]),
        files,
    )


def find_side_effect(work: Path) -> str:
    """Return what cells have done so far outside of the kernel and the run's folder, empty if nothing is left of it."""
    footprint = load_footprint(work / TRACE_NAME)
    if footprint.began is None:
        return "its kernel could not be observed"
    temporary = f"{Path(tempfile.gettempdir()).resolve()}{os.sep}"
    for name in footprint.changes:
        is_gone = name.startswith(temporary) and not os.path.lexists(name)
        if not Path(name).is_relative_to(work) and not is_gone:
            return f"it changed {paths.show_path(Path(name))}, outside of its outputs"
    return ""


async def ask_for_checkpoint(client: Any) -> dict[str, Any]:
    """Ask the kernel for a checkpoint and return its reply."""
    message = client.kc.session.msg(REQUEST, {})
    client.kc.shell_channel.send(message)
    until = time.monotonic() + LONGEST_SECONDS
    request, is_done = message["header"]["msg_id"], False
    while time.monotonic() < until:
        with suppress(Empty):
            while not is_done:
                is_done = is_idle_after(await client.kc.get_iopub_msg(timeout=1), request)
            while (reply := await client.kc.get_shell_msg(timeout=1))["parent_header"].get("msg_id") != request:
                pass
            return dict(reply["content"])
        if is_done or not await client.km.is_alive():
            break
    return {"obstacle": "its kernel does not give a copy of itself"}


def copy_cells(cells: Sequence[Any], seconds: Sequence[float]) -> list[KeptCell]:
    """Return the code cells among some cells, with a copy of their outputs."""
    return [
        KeptCell(
            cell.source,
            tuple(cell.metadata.get("tags", ())),
            copy.deepcopy(cell.outputs),
            cell.execution_count,
            seconds[index],
        )
        for index, cell in enumerate(cells)
        if cell.cell_type == "code"
    ]


def find_code_cells(cells: Sequence[Any]) -> list[int]:
    """Return the places of the code cells."""
    return [index for index, cell in enumerate(cells) if cell.cell_type == "code"]


def number_displays(
    places: Mapping[str, Mapping[int, Sequence[int]]], cells: Sequence[Any]
) -> dict[str, list[tuple[int, int]]]:
    """Return the places of displays by the number of their code cell, so that prose may be edited."""
    numbers = {index: number for number, index in enumerate(find_code_cells(cells))}
    return {
        name: [(numbers[index], output) for index, outputs in by_cell.items() for output in outputs]
        for name, by_cell in places.items()
    }


def restore_cells(client: Any, start: Checkpoint | None, running: Any) -> int:
    """Give a notebook the outputs of the cells that do not run again; return the place of the first that does."""
    if start is None:
        return 0
    cells = client.nb.cells
    places = find_code_cells(cells)
    for kept, index in zip(start.cells, places, strict=False):
        cell = cells[index]
        cell.outputs = [nbformat.from_dict(dict(output)) for output in kept.outputs]
        cell.execution_count = kept.execution_count
        running.states[index], running.seconds[index] = "finished", kept.seconds
    for name, pairs in start.displays.items():
        by_cell = client._display_id_map.setdefault(name, {})
        for number, output in pairs:
            by_cell.setdefault(places[number], []).append(output)
    n_kept = len(start.cells)
    first = places[n_kept] if n_kept < len(places) else len(cells)
    for index in range(first):
        running.states[index] = "finished"
    return first


def keep_process(pid: int) -> bool:
    """Have the process of a checkpoint outlive the run; return whether it does."""
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        return False
    until = time.monotonic() + KEEP_SECONDS
    while time.monotonic() < until:
        if process_tree.get_name(pid) == KEPT_NAME:
            return True
        time.sleep(0.005)
    return False
