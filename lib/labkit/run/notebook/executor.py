"""Execute a notebook with papermill, in process, from a snapshot of its source.

Sole owner of papermill and nbclient. Reports how each cell ended; `labkit.run.pipeline.stage_run` records the result,
and `labkit.run.kernels.provisioner` starts the kernel.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from nbclient.exceptions import CellControlSignal, CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from labkit.errors import ParamsError, StageError, shorten
from labkit.params.experiment import TimeLimits
from labkit.run.cell_states import CellState
from labkit.run.kernels.provisioner import make_kernel_specs
from labkit.run.memory import SAMPLING_SECONDS
from labkit.run.notebook.checkpoints import Checkpointer, restore_cells
from labkit.run.notebook.event_loop import run_coroutine
from labkit.run.notebook.execution import (
    CellCallback,
    Live,
    RunningNotebook,
    describe_death,
    find_hint,
    save_on_full_disk,
)
from labkit.run.notebook.local_paths import shorten_paths
from labkit.run.notebook.output_limit import MOST_OF_RAW, open_raw, shorten_file
from labkit.run.notebook.parameters import check_parameters
from labkit.run.notebook.result import (
    ALLOW_EXIT,
    Execution,
    Failure,
    NotebookOutcome,
    add_error,
    describe_message,
    find_heading,
    is_idle_after,
    make_failure,
    mark_cells,
    number_cells,
    report_exit,
)
from labkit.run.notebook.source import NotebookSource
from labkit.secrets.redaction import Mask
from labkit.storage.atomic import write_text
from labkit.storage.disk import describe_full, is_full

INTERRUPT_NOTE = "[IPKernelApp] ERROR | KeyboardInterrupt caught in kernel.\n"
"""Line that a kernel prints whenever it is shut down, because it is interrupted first."""
INTERRUPT_SECONDS = 2.0
"""How long an interrupted cell may take to send its traceback."""
OUTPUT_SECONDS = 600
"""How long the rest of a cell's output may take to arrive after the cell has ended; nbclient's default is 4 s."""


class StageClient(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client in one event loop: reports each cell, enforces the limits, and records how each cell ended."""

    def __init__(self, running: RunningNotebook, nb_man: Any, **options: Any) -> None:
        super().__init__(nb_man, timeout_func=lambda cell: running.find_limit(), **options)
        self.running = running
        self.on_cell_executed = report_exit

    def execute(self, **_: Any) -> Any:
        """Execute every cell; on an interrupt the kernel is shut down first."""
        self.reset_execution_trackers()
        return run_coroutine(self.execute_all())

    async def execute_all(self) -> Any:
        """Start a kernel, run the cells, and shut down the kernel in any case."""
        running, cells = self.running, self.nb.cells
        running.states, running.seconds, running.notebook = ["not run"] * len(cells), [0.0] * len(cells), self.nb
        watch = asyncio.create_task(self.watch_memory())
        try:
            self.km = self.create_kernel_manager()
            self.km.kernel_spec_manager = make_kernel_specs()
            options: dict[str, Any] = {"stdout": running.raw, "stderr": running.raw, **running.checkpointer.options}
            await self.async_start_new_kernel(env=dict(running.environment), **options)
            await self.connect()
            for index in range(restore_cells(self, running.checkpointer.start, running), len(cells)):
                await running.checkpointer.take(self, index)
                if not await self.execute_one(index):
                    break
            # The only measurement of a stage that ends before the first sample.
            self.look_at_memory()
            with suppress(DeadKernelError):  # ended by `exit()`
                info = await self.async_wait_for_reply(self.kc.kernel_info())
                self.nb.metadata["language_info"] = info["content"]["language_info"]
            self.set_widgets_metadata()
        finally:
            watch.cancel()
            if self.km is not None:
                running.exit_code = await self.km.provisioner.poll() if self.km.has_kernel else None
                if not {*running.states} <= {"finished", "not run"}:
                    running.checkpointer.keep()
                await asyncio.shield(self._async_cleanup_kernel())
        return self.nb

    async def watch_memory(self) -> None:
        """Measure the memory of the kernel and its descendants repeatedly."""
        while True:
            self.look_at_memory()
            shorten_file(self.running.raw)
            await asyncio.sleep(SAMPLING_SECONDS)

    def look_at_memory(self) -> None:
        """Measure the memory of the kernel and its descendants, if there is a kernel."""
        pid = getattr(self.km.provisioner, "pid", None) if self.km is not None and self.km.has_kernel else None
        if pid:
            self.running.gauge.look(pid)
            self.running.live.on_memory(self.running.gauge.now_bytes)

    async def connect(self) -> None:
        """Open the channels and wait for the kernel's first reply and the idle message that follows it.

        After the idle message the output channel is known to work.
        """
        self.kc = client = self.km.client()
        client.start_channels()
        client.allow_stdin = False
        until = time.monotonic() + self.startup_timeout
        while True:
            asked = client.kernel_info()
            with suppress(Empty):
                # Replies to earlier requests may have queued up during the start: only the latest counts.
                while (await client.get_shell_msg(timeout=1))["parent_header"].get("msg_id") != asked:
                    pass
                while not is_idle_after(await client.get_iopub_msg(timeout=1), asked):
                    pass
                return
            if not await self.km.is_alive():
                raise DeadKernelError("the kernel died during startup")
            if time.monotonic() > until:
                raise DeadKernelError(f"the kernel did not reply within {self.startup_timeout:.0f} s")

    async def execute_one(self, index: int) -> bool:
        """Run one cell and record how it ended; return whether to continue with the next."""
        running, cell = self.running, self.nb.cells[index]
        started = time.monotonic()
        state: CellState = "failed"
        if cell.cell_type == "code":
            heading, numbers = find_heading(self.nb.cells, index), number_cells(self.nb.cells)
            running.on_cell(numbers[index], numbers[-1], heading)
            running.start_log()
            running.output_limit.start_cell()
            running.write(f"--- cell {numbers[index]} of {numbers[-1]}{': ' + heading if heading else ''}\n")
        self.nb_man.cell_start(cell, index)
        try:
            await self.async_execute_cell(cell, index)
            state = "finished"
        except CellExecutionError as error:
            running.error = running.mask.clean((str(error.ename), str(error.evalue)))
            running.is_allowed_to_exit = error.ename == "SystemExit" and ALLOW_EXIT in cell.metadata.get("tags", [])
            state = "finished" if running.is_allowed_to_exit else "failed"
            self.nb_man.cell_exception(cell, cell_index=index, exception=error)
            return False
        except CellTimeoutError:
            state = "timed out"
            raise
        except (DeadKernelError, asyncio.CancelledError):
            # nbclient treats every cancellation as the death of the kernel.
            task = asyncio.current_task()
            is_interrupt = task is not None and task.cancelling() > 0
            state = "interrupted" if is_interrupt else "died"
            if is_interrupt:
                await self.interrupt(cell, index)
                raise asyncio.CancelledError from None
            raise
        finally:
            running.states[index], running.seconds[index] = state, time.monotonic() - started
            running.checkpointer.unsaved_seconds += running.seconds[index] * (cell.cell_type == "code")
            if cell.cell_type == "code":
                self.close_cell(cell, index)
            self.nb_man.cell_complete(cell, cell_index=index)
        return True

    def close_cell(self, cell: Any, index: int) -> None:
        """Add the end of shortened output to a cell's outputs, and an error that was only printed."""
        running, outputs = self.running, cell.outputs
        added = running.mask.clean(running.output_limit.end_cell(index, outputs))
        place = len(outputs) - sum(output.output_type == "error" for output in outputs[-1:])
        outputs[place:place] = added
        if running.error and not any(output.output_type == "error" for output in outputs):
            add_error(outputs, *running.error)
            running.error = (running.error[0], outputs[-1].evalue)
        running.end_log()

    async def interrupt(self, cell: Any, index: int) -> None:
        """Interrupt the running cell and process its last messages, such as the traceback."""
        await self.km.interrupt_kernel()
        until = time.monotonic() + INTERRUPT_SECONDS
        with suppress(Empty, CellControlSignal):  # silence, or the message that the cell has ended
            while True:
                message = await self.kc.get_iopub_msg(timeout=max(0, until - time.monotonic()))
                self.process_message(message, cell, index)

    async def _async_handle_timeout(self, timeout: int, cell: Any = None) -> None:
        """Interrupt a cell that timed out and collect its traceback; kill the kernel if it does not respond."""
        await self.km.interrupt_kernel()
        await asyncio.sleep(min(INTERRUPT_SECONDS, 0.5))
        self.shutdown_kernel = "immediate"
        raise CellTimeoutError.error_from_timeout_and_cell("Cell execution timed out", timeout, cell)

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Log and process one message of the kernel, with secrets removed before anything is stored."""
        self.running.log_output(describe_message(msg))
        if not self.running.output_limit.admit(msg, cell.get("outputs", [])):
            return None
        msg["content"] = self.running.mask.clean(msg["content"])
        output = super().process_message(msg, cell, cell_index)
        self.running.mask.join_streams(cell.get("outputs", []))
        return output


class StageEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine with a `StageClient`."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, running: RunningNotebook, **options: Any
    ) -> Any:
        """Execute the notebook that papermill manages."""
        client = StageClient(
            running,
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=options["start_timeout"],
            log=logging.getLogger("papermill"),
            iopub_timeout=OUTPUT_SECONDS,
        )
        return client.execute()


papermill_engines.register("labkit", StageEngine)


def run_notebook(
    source: NotebookSource,
    executed: Path,
    *,
    parameters: Mapping[str, Any],
    environment: Mapping[str, str],
    on_cell: CellCallback,
    limits: TimeLimits | None = None,
    live: Live | None = None,
    mask: Mask | None = None,
) -> Execution:
    """Execute a notebook and write the executed copy, in which each cell is marked with how it ended.

    Parameters
    ----------
    source
        As read by `labkit.run.notebook.source.read_source`; the kernel starts in its folder, as in JupyterLab.
    executed
        Path of the executed copy, which is overwritten.
    parameters
        Values to inject below the `parameters` cell, which must declare them.
    environment
        The kernel's complete environment.
    limits
        How long a cell and the whole notebook may take.
    live
        Where output and memory use are shown meanwhile, and checkpoints of the kernel.
    mask
        Removes secrets from the executed copy and the log.

    Raises
    ------
    ParamsError
        A parameter is not declared, not plain data, or holds a secret.
    StageError
        The executed copy cannot be written.
    """
    mask = mask or Mask()
    parameters = check_parameters(source.notebook, parameters, where=executed.name)
    if mask.clean(parameters) != parameters:
        raise ParamsError(f"{executed.name}: a parameter holds a secret: the notebook gets it by step.secret")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    with open_raw() as raw:
        live = live or Live()
        checkpointer = live.checkpointer or Checkpointer(executed.parent, None)
        running = RunningNotebook(on_cell, environment, limits or TimeLimits(), live, mask, raw, checkpointer)
        error = execute_source(source, executed, parameters, running)
        raw.seek(0)
        running.start_log()
        running.log_output(raw.read(MOST_OF_RAW).decode("utf-8", "replace").replace(INTERRUPT_NOTE, ""))
        running.end_log()
    seconds = time.monotonic() - running.started
    notebook = close_copy(executed, running)
    failure = find_failure(notebook, running, error)
    outcome = find_notebook_outcome(failure, running, error)
    numbers = number_cells(notebook.cells)
    cut = "; ".join(f"cell {numbers[index]}: {what}" for index, what in running.output_limit.cut.items())
    # Without the cell that papermill adds, whose number is that of the cell before it.
    own = [index for index, number in enumerate(numbers) if number not in numbers[:index]]
    cells = tuple(running.seconds[index] for index in own) if running.seconds else ()
    return Execution(seconds, failure, cells, outcome, running.gauge.peak_bytes, cut)


def execute_source(
    source: NotebookSource, executed: Path, parameters: Mapping[str, Any], running: RunningNotebook
) -> BaseException | None:
    """Execute a notebook with papermill; return the exception that stopped it, None if it finished."""
    try:
        execute_notebook(
            nbformat.from_dict(source.notebook),
            # papermill replaces parameters in braces, in the path as well.
            str(executed).replace("{", "{{").replace("}", "}}"),
            parameters=parameters,
            engine_name="labkit",
            kernel_name="python3",
            progress_bar=False,
            cwd=str(source.path.parent),
            # Saved once at the end: saving at the start and end of each cell takes longer than most cells.
            request_save_on_cell_execute=False,
            running=running,
        )
    except (PapermillExecutionError, DeadKernelError, CellTimeoutError, KeyboardInterrupt) as error:
        return error
    except OSError as error:
        if not is_full(error) or running.notebook is None:
            raise StageError(f"{executed}: {error}") from error
        running.full_disk = describe_full(executed, "more")
        save_on_full_disk(executed, running)
        return error
    return None


def find_notebook_outcome(
    failure: Failure | None, running: RunningNotebook, error: BaseException | None
) -> NotebookOutcome:
    """Return how a notebook ended, in one word."""
    if failure is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, DeadKernelError):
        return "died"
    return "timed out" if "timed out" in running.states else "failed"


def close_copy(executed: Path, running: RunningNotebook) -> nbformat.NotebookNode:
    """Store in the executed copy how each cell ended, and remove secrets and, from the file, paths of this machine.

    Outputs are already clean, but sources, metadata and widgets may hold secrets.
    """
    notebook = running.mask.clean(running.notebook or nbformat.read(executed, as_version=4))
    n_cells = len(notebook.cells)
    mark_cells(notebook, running.states or ["not run"] * n_cells, running.seconds or [0.0] * n_cells)
    write_text(executed, nbformat.writes(shorten_paths(notebook)) + "\n")
    return notebook


def find_failure(
    executed: nbformat.NotebookNode, running: RunningNotebook, error: BaseException | None
) -> Failure | None:
    """Return where and why a notebook stopped, None if it finished."""
    unfinished = [number for number, state in enumerate(running.states) if state != "finished"]
    if running.is_allowed_to_exit or (error is None and not unfinished):
        return None
    index = unfinished[0] if unfinished else 0
    return make_failure(executed, index, *describe_end(running, error))


def describe_end(running: RunningNotebook, error: BaseException | None) -> tuple[str, str]:
    """Return the name and message of the error that stopped a notebook."""
    if isinstance(error, PapermillExecutionError):
        # papermill reports the first error that the cell shows, which need not be the one that it raised.
        name, message = running.error or (str(error.ename), str(error.evalue))
        hint = find_hint(name, message, running)
        first, _, rest = message.strip().partition("\n")
        summary = f"{name}: {first}" if first else name
        return name, f"{shorten(summary) + hint if hint else summary}\n{rest}".rstrip("\n")
    if isinstance(error, CellTimeoutError) and "IOPub" in str(error):
        summary = f"the cell ended, but its output had not arrived completely {OUTPUT_SECONDS} s later: print less"
        return "CellTimeoutError", summary
    if isinstance(error, CellTimeoutError):
        seconds = getattr(running.limits, running.limit)
        what = "the cell" if running.limit == "cell_seconds" else "the stage"
        return "CellTimeoutError", f"timed out: {what} ran for {seconds:g} s, limits.{running.limit} allows no more"
    if isinstance(error, KeyboardInterrupt):
        return "KeyboardInterrupt", "interrupted"
    if isinstance(error, OSError):
        return "OSError", running.full_disk
    if isinstance(error, DeadKernelError):
        return "DeadKernelError", describe_death(running, f"{error}".lower())
    return "SystemExit", f"a cell called sys.exit(): tag it `{ALLOW_EXIT}` if the notebook may end there"
