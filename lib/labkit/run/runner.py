"""How a notebook is executed: papermill, in process, on a snapshot of the source.

Sole owner of papermill. Says how each cell ended; not what is recorded of it: that is `labkit.run.stage`.
"""

import logging
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook
from papermill.iorw import write_ipynb

from labkit.errors import ParamsError, StageError
from labkit.files import write_text
from labkit.run.parameters import check_parameters
from labkit.secret import Mask

CellCallback = Callable[[int, int, str], None]
"""Called as each cell starts: its number from 1, the number of cells, the heading it stands under."""


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
    """How a notebook ended: `failure` is None if every cell finished."""

    seconds: float
    failure: Failure | None


class MaskingClient(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client, whose every message is without secrets before anything is kept of it."""

    mask = Mask()

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take in one message of the kernel."""
        msg["content"] = self.mask.clean(msg["content"])
        output = super().process_message(msg, cell, cell_index)
        self.mask.join_streams(cell.get("outputs", []))
        return output


class CallbackEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine, telling of each cell and giving the kernel an environment of its own."""

    @classmethod
    def execute_managed_notebook(  # noqa: D102
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        on_cell: CellCallback,
        environment: Mapping[str, str],
        mask: Mask,
        **options: Any,
    ) -> Any:
        start_cell, cells = nb_man.cell_start, nb_man.nb.cells

        def announce(cell: Any, cell_index: int | None = None, **more: Any) -> None:
            if cell.cell_type == "code" and cell_index is not None:
                on_cell(cell_index + 1, len(cells), find_heading(cells, cell_index))
            start_cell(cell, cell_index, **more)

        nb_man.cell_start = announce
        client = MaskingClient(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=options["start_timeout"],
            timeout=None,
            log=logging.getLogger("papermill"),
        )
        client.mask = mask
        # Sockets in a folder of this kernel's own: TCP ports race under load and any local user can listen to them.
        # Not in the run's work folder, because the path of a socket may have 107 characters at most.
        with tempfile.TemporaryDirectory(prefix="labkit-") as sockets:
            manager = client.create_kernel_manager()
            manager.transport, manager.ip = "ipc", f"{sockets}/kernel"
            return client.execute(env=dict(environment))


papermill_engines.register("labkit", CallbackEngine)


def run_notebook(
    notebook: nbformat.NotebookNode,
    executed: Path,
    *,
    folder: Path,
    parameters: Mapping[str, Any],
    environment: Mapping[str, str],
    on_cell: CellCallback,
    mask: Mask | None = None,
) -> Execution:
    """Execute a notebook and write the executed copy, whether or not it succeeds.

    Parameters
    ----------
    notebook
        As read by `labkit.run.notebooks.load_source`; it is not changed.
    executed
        Where the executed copy goes.
    folder
        Where the kernel starts: beside the source, as in JupyterLab.
    parameters
        Injected below the `parameters` cell, which must declare them.
    environment
        The kernel's whole environment.
    mask
        What keeps secrets out of the executed copy.

    Raises
    ------
    ParamsError
        A parameter is not declared, not plain data, or holds a secret.
    StageError
        The executed copy cannot be written.
    """
    mask = mask or Mask()
    parameters = check_parameters(notebook, parameters, where=executed.name)
    if mask.clean(parameters) != parameters:
        raise ParamsError(f"{executed.name}: a parameter holds a secret: the notebook gets it by step.secret")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    failure = None
    try:
        execute_notebook(
            nbformat.from_dict(notebook),
            # papermill fills parameters into what stands in braces, in the path too.
            str(executed).replace("{", "{{").replace("}", "}}"),
            parameters=parameters,
            engine_name="labkit",
            kernel_name="python3",
            progress_bar=False,
            cwd=str(folder),
            on_cell=on_cell,
            environment=environment,
            mask=mask,
        )
    except PapermillExecutionError as error:
        failure = describe_failure(mask_executed(executed, mask), error)
    except DeadKernelError:
        failure = describe_death(mask_executed(executed, mask))
    except OSError as error:
        raise StageError(f"{executed}: {error}") from error
    else:
        mask_executed(executed, mask)
    return Execution(time.monotonic() - started, failure)


def mask_executed(executed: Path, mask: Mask) -> nbformat.NotebookNode:
    """Take what outputs do not bring out of an executed copy: secrets in sources, metadata and widgets."""
    notebook = nbformat.read(executed, as_version=4)
    cleaned = mask.clean(notebook)
    if cleaned != notebook:
        write_text(executed, nbformat.writes(cleaned))
    return cleaned


def describe_failure(executed: nbformat.NotebookNode, error: PapermillExecutionError) -> Failure:
    """Say where and why a cell raised."""
    cells = [cell for cell in executed.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    index = next((number for number, cell in enumerate(cells) if has_error(cell)), len(cells) - 1)
    cell = cells[index]
    return Failure(
        cell=index + 1,
        n_cells=len(cells),
        heading=find_heading(cells, index),
        line=find_line(cell),
        error_name=str(error.ename),
        error_text=f"{error.ename}: {error.evalue}",
    )


def describe_death(executed: nbformat.NotebookNode) -> Failure:
    """Say in which cell the kernel died."""
    cells = executed.cells
    ran = [number for number, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
    index = ran[-1] if ran else 0
    return Failure(index + 1, len(cells), find_heading(cells, index), "", "DeadKernelError", "the kernel died")


def has_error(cell: nbformat.NotebookNode) -> bool:
    """Tell whether a cell's output holds an error."""
    return cell.cell_type == "code" and any(output.output_type == "error" for output in cell.outputs)


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


def write_notebook(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook."""
    write_ipynb(notebook, str(path))
