"""Verify notebooks: the checks without running them, then the outputs of a fresh run beside the saved ones."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, name_nearest
from labkit.run.notebook.source import read_notebook
from labkit.run.saved_cells.code_cells import CodeCell, Finding, read_code_cells
from labkit.run.saved_cells.static_checks import check_static
from labkit.run.verification.tolerances import CELL_SECONDS, RTOL
from labkit.secrets.redaction import Mask
from labkit.units import format_count, format_duration

VARIES = "ignore-output"
"""Tag of a cell whose output may differ from run to run."""


@dataclass(frozen=True)
class Verification:
    """What was found in one notebook.

    Attributes
    ----------
    order
        Number and saved execution count of each code cell.
    n_run, n_compared
        Code cells that ran in the fresh kernel, and those whose outputs were compared; None if nothing was run.
    """

    notebook: str
    findings: tuple[Finding, ...]
    order: tuple[tuple[int, int | None], ...]
    n_run: int | None = None
    n_compared: int | None = None
    seconds: float = 0.0

    def describe(self) -> list[str]:
        """Return the result as lines: a summary, then the findings."""
        n_cells = format_count(len(self.order), "code cell")
        if self.n_run is None:
            done = f"{n_cells} checked, nothing was run"
        else:
            same = f"outputs of {self.n_compared} compared" if self.n_compared else "no saved outputs to compare"
            done = f"{self.n_run} of {n_cells} ran in {format_duration(self.seconds)}, {same}"
        counts = [count for _, count in self.order]
        if any(one.kind == "order" for one in self.findings):
            done += f"; ran in the order {', '.join('-' if count is None else str(count) for count in counts)}"
        found = format_count(len(self.findings), "finding") if self.findings else "no findings"
        return [make_printable(f"{self.notebook}: {found} ({done})")] + [
            f"  {make_printable(one.describe())}" for one in self.findings
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            "notebook": self.notebook,
            "findings": [one.to_dict() for one in self.findings],
            "execution_order": [{"cell": cell, "count": count} for cell, count in self.order],
            "n_run": self.n_run,
            "n_compared": self.n_compared,
            "seconds": round(self.seconds, 3),
        }


def verify_notebooks(
    named: Sequence[Path], *, is_static: bool = False, rtol: float = RTOL, cell_seconds: int = CELL_SECONDS
) -> Iterator[Verification]:
    """Yield the verification of each notebook; all are read before the first one runs.

    Parameters
    ----------
    named
        The notebooks; without any, all below `notebooks/` of the checkout.
    is_static
        Run nothing.
    rtol
        Largest relative difference of two numbers in outputs.
    cell_seconds
        Time limit per cell, in seconds.

    Raises
    ------
    ParamsError
        One is not a notebook of format 4 for Python, or there is none.
    """
    if rtol < 0 or rtol >= 1:
        raise ParamsError(f"--rtol {rtol}: a relative tolerance is at least 0 and less than 1, e.g. 1e-6")
    notebooks = {path: read_for_verification(path) for path in named or list_all_notebooks()}
    return (
        verify_notebook(path, notebook, is_static=is_static, rtol=rtol, cell_seconds=cell_seconds)
        for path, notebook in notebooks.items()
    )


def list_all_notebooks() -> list[Path]:
    """Return all notebooks of the checkout, those of single experiments as well."""
    folder = paths.find_notebooks_dir()
    found = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    if not found:
        raise ParamsError(f"{paths.show_path(folder)}: no notebooks: name one")
    return found


def read_for_verification(path: Path) -> NotebookNode:
    """Read a notebook of any kind, with or without a `parameters` cell and a kernel's name."""
    shown = make_printable(paths.show_path(path))
    if not path.exists():
        beside = [make_printable(other.name) for other in path.parent.glob("*.ipynb")]
        raise ParamsError(f"{shown}: no such notebook: {name_nearest(path.name, beside)}")
    notebook = read_notebook(path).notebook
    metadata = notebook.metadata
    language = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name", "python")
    if str(language).lower() != "python":
        raise ParamsError(f"{shown}: for {language}: only notebooks in Python can be verified")
    return notebook


def verify_notebook(
    path: Path, notebook: NotebookNode, *, is_static: bool, rtol: float, cell_seconds: int
) -> Verification:
    """Check one notebook, and unless `is_static` run it and compare its outputs."""
    shown, findings, cells = paths.show_path(path), check_static(notebook), list(read_code_cells(notebook))
    order = tuple((cell.number, cell.count) for cell in cells)
    if is_static:
        return Verification(shown, tuple(findings), order)
    # Imported here: the checks alone need no kernel, and start at once.
    from labkit.run.verification.fresh_run import run_fresh

    started = time.monotonic()
    fresh, stop = run_fresh(notebook, path.resolve().parent, cell_seconds=cell_seconds)
    ran = [cell for cell in cells if cell.is_run and (stop is None or cell.number <= stop.index + 1)]
    if stop:
        stopped = next(cell for cell in cells if cell.number == stop.index + 1)
        error = Mask().clean_text(stop.error)
        findings.append(
            Finding(stopped.number, stopped.cell_id, stop.line, "error", f"{error}; later cells did not run")
        )
        ran = ran[:-1]
    compared = [cell for cell in ran if is_comparable(notebook, cell)]
    findings += find_changed_outputs(notebook, fresh, compared, rtol=rtol)
    findings.sort(key=lambda one: (one.cell, one.line or 0))
    seconds = time.monotonic() - started
    return Verification(shown, tuple(findings), order, len(ran) + bool(stop), len(compared), seconds)


def is_comparable(notebook: NotebookNode, cell: CodeCell) -> bool:
    """Return whether the saved outputs of a cell are those of a run and expected to come again."""
    saved = notebook.cells[cell.number - 1]
    return VARIES not in cell.tags and (cell.count is not None or bool(saved.outputs))


def find_changed_outputs(
    saved: NotebookNode, fresh: NotebookNode, cells: Sequence[CodeCell], *, rtol: float
) -> Iterator[Finding]:
    """Yield a finding for each cell whose outputs differ."""
    from labkit.run.verification.output_comparison import compare_outputs

    for cell in cells:
        before, after = saved.cells[cell.number - 1].outputs, fresh.cells[cell.number - 1].outputs
        if difference := compare_outputs(before, after, rtol=rtol):
            yield Finding(cell.number, cell.cell_id, None, "output", difference)
