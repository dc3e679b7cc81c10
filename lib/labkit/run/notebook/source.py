"""Read and check source notebooks.

Never writes them. Notebooks are listed by `labkit.run.notebook_files` and executed by `labkit.run.notebook.executor`;
parameters are checked by `labkit.run.notebook.parameters`.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import ParamsError, name_nearest
from labkit.paths import show_path
from labkit.run.notebook.parameters import check_parameters, read_defaults
from labkit.run.notebook_files import find_stage, list_notebooks
from labkit.storage.digests import compute_digest
from labkit.units import format_count

if TYPE_CHECKING:
    import nbformat

LARGEST_NOTEBOOK_BYTES = 50_000_000
KERNEL = "python3"
"""The kernel of the environment in which labkit runs."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@dataclass(frozen=True)
class NotebookSource:
    """A notebook as it was when the run started: `digest` is the SHA-256 of the file."""

    path: Path
    notebook: "nbformat.NotebookNode"
    digest: str

    @property
    def is_current(self) -> bool:
        """Whether the file is unchanged since it was read."""
        try:
            return compute_digest(self.path) == self.digest
        except OSError:
            return False


Snapshot = Mapping[str, NotebookSource]
"""Stage → notebook, all read before anything runs."""


def find_notebook(stage: str, experiment: str | None = None) -> Path:
    """Return a stage's notebook: the one whose name is a number and the stage's; the experiment's own if it has one.

    Raises
    ------
    ParamsError
        No match, or more than one.
    """
    known = list_notebooks(experiment)
    found = [path for path in known if find_stage(path) == stage]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ParamsError(f"notebooks/: {names} are both for the stage {stage!r}: keep one")
    if not found:
        nearest = name_nearest(stage, map(find_stage, known))
        raise ParamsError(f"notebooks/: no notebook NN_{stage}.ipynb for the stage {stage!r}: {nearest}")
    return found[0]


def take_snapshot(stages: Iterable[str], parameters: Mapping[str, Any]) -> dict[str, NotebookSource]:
    """Read the notebooks of some stages and check that each can run with these parameters.

    Raises
    ------
    ParamsError
        A notebook is not there or cannot run.
    """
    snapshot = {}
    for stage in stages:
        path = find_notebook(stage, parameters.get("experiment"))
        source = read_source(path)
        check_parameters(source.notebook, parameters, where=show_path(path))
        snapshot[stage] = source
    return snapshot


def read_source(path: Path | str) -> NotebookSource:
    """Read one source notebook, the snapshot that will run.

    Raises
    ------
    ParamsError
        It is not a file, too large, not a notebook of format 4 for this Python, or its `parameters` cell is invalid.
    """
    source = read_notebook(path)
    where = show_path(source.path)
    read_defaults(source.notebook, where=where)
    check_kernel(source.notebook, where)
    return source


def read_notebook(path: Path | str) -> NotebookSource:
    """Read a notebook, whether or not it can run.

    Raises
    ------
    ParamsError
        It is not a file, too large, or not a notebook of format 4.
    """
    if ADDRESS.match(str(path)):
        raise ParamsError(f"{path}: a URL, not a file: download the notebook, read it, put it into notebooks/")
    import nbformat  # takes seconds; kernels of stages of the user's own need only `read_cells`

    path = Path(path)
    where = show_path(path)
    content = read_bytes(path)
    tree = parse_notebook(content, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about cells without ids, which get new ones
            nbformat.validate(tree)
        notebook = nbformat.v4.reads(content.decode("utf-8"))
    except Exception as error:  # nbformat raises unrelated types of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParamsError(f"{where}: not a notebook ({reason:.200}): restore it from git") from error
    return NotebookSource(path, notebook, hashlib.sha256(content).hexdigest())


class Node(dict[str, Any]):
    """A part of a notebook, whose entries are also attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def read_cells(path: Path) -> Node:
    """Read a notebook's cells without nbformat, which is slow to import; only their types, ids, tags and sources.

    Raises
    ------
    ParamsError
        It is not a file, too large, or not a notebook of format 4.
    """
    where = show_path(path)
    cells = parse_notebook(read_bytes(path), where).get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ParamsError(f"{where}: not a notebook (no list of cells): restore it from git")
    return Node(
        cells=[
            Node(
                id=str(cell.get("id", "")),
                cell_type=cell.get("cell_type"),
                metadata=Node(cell.get("metadata") or {}),
                source="".join(cell.get("source") or ""),
            )
            for cell in cells
        ]
    )


def read_bytes(path: Path) -> bytes:
    """Return the content of a notebook's file, after a check of its size."""
    where = show_path(path)
    if not path.is_file():
        raise ParamsError(f"{where}: {'not a file' if path.exists() else 'no such notebook'}: restore it from git")
    n_bytes = path.stat().st_size
    if n_bytes > LARGEST_NOTEBOOK_BYTES:
        raise ParamsError(
            f"{where}: {format_count(n_bytes, 'byte')}, over {LARGEST_NOTEBOOK_BYTES:,}: clear its outputs; "
            "keep data in separate files"
        )
    return path.read_bytes()


def parse_notebook(content: bytes, where: str) -> dict[str, Any]:
    """Return a notebook's JSON if its format is 4."""
    if not content:
        raise ParamsError(f"{where}: not a notebook (an empty file): restore it from git")
    try:
        tree = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ParamsError(f"{where}: not a notebook (not JSON{line}): restore it from git") from error
    form = tree.get("nbformat") if isinstance(tree, dict) else None
    if type(form) is not int:
        raise ParamsError(f"{where}: not a notebook (JSON without `nbformat`): restore it from git")
    if form != 4:
        raise ParamsError(f"{where}: notebook format {form}, not 4: open it in JupyterLab and save it")
    return tree


def check_kernel(notebook: "nbformat.NotebookNode", where: str) -> None:
    """Raise an error for a notebook that is not for the Python that runs labkit."""
    kernel = notebook.metadata.get("kernelspec", {})
    name = kernel.get("name", "")
    language = kernel.get("language") or notebook.metadata.get("language_info", {}).get("name", "python")
    if not name:
        raise ParamsError(f"{where}: has no kernel: open it in JupyterLab, choose Python 3 (ipykernel) and save it")
    if str(language).lower() != "python":
        raise ParamsError(f"{where}: for {language} (kernel {name!r}): labkit runs notebooks in Python")
    if name != KERNEL:
        raise ParamsError(f"{where}: for the kernel {name!r}: choose {KERNEL!r} in JupyterLab, the one labkit runs in")
