"""Differences between two notebooks by cell, and the merge of two notebooks with what both came from.

The owner of nbdime, which is imported when needed. Only the source of cells is compared: outputs, counts and metadata
differ for other reasons. Which notebooks are compared: `labkit.run.notebook.own_notebooks`.
"""

import copy
import difflib
import logging
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import nbformat

CONFLICT_MARKER = re.compile(r"<{7}|>{7}")
OPENING = "<" * 7
RECORDED = "nbdime-conflicts"
"""Where nbdime keeps conflicting metadata of a cell or notebook."""
METADATA = "metadata"
"""Stands for a cell's id where the metadata of the notebook conflict."""
N_CONTEXT, N_COLUMNS = 2, 76


@dataclass(frozen=True)
class CellChange:
    """A cell that is `changed`, `added` or `removed`; `before` or `after` is None if there is no such cell."""

    id: str
    type: str
    change: str
    before: str | None
    after: str | None

    def list_lines(self) -> list[str]:
        """Return the lines removed, added and around them, each with its sign, wrapped for people to read."""
        before, after = (source.split("\n") if source else [] for source in (self.before, self.after))
        lines = list(difflib.unified_diff(before, after, n=N_CONTEXT, lineterm=""))[2:]
        lines = lines[1:] if None in (self.before, self.after) else lines
        return [part for line in lines for part in textwrap.wrap(line, N_COLUMNS, subsequent_indent="      ") or [""]]


@dataclass(frozen=True)
class Conflict:
    """A cell, named by id, that two notebooks conflict in; `line` is that of a marker in its source, None without."""

    cell: str
    line: int | None = None

    def __str__(self) -> str:
        if self.cell == METADATA:
            return "metadata of the notebook"
        return f"cell {self.cell}, line {self.line}" if self.line else f"cell {self.cell}"


@dataclass(frozen=True)
class Merged:
    """The merge of two notebooks, and the ids of the cells in which they conflict."""

    notebook: nbformat.NotebookNode
    conflicts: tuple[str, ...] = ()


def compare_cells(before: nbformat.NotebookNode, after: nbformat.NotebookNode) -> list[CellChange]:
    """Return the cells whose source differs, in the order of the notebook."""
    from nbdime import diff_notebooks

    old, new = reduce_to_sources(before), reduce_to_sources(after)
    changes: list[CellChange] = []
    shift = 0  # index in `new` minus index in `old`
    for operation in next((one.diff for one in diff_notebooks(old, new) if one.key == "cells"), ()):
        if operation.op == "addrange":
            changes += [make_change("added", None, cell) for cell in operation.valuelist]
            shift += len(operation.valuelist)
        elif operation.op == "removerange":
            removed = old.cells[operation.key : operation.key + operation.length]
            changes += [make_change("removed", cell, None) for cell in removed]
            shift -= operation.length
        else:
            cells = old.cells[operation.key], new.cells[operation.key + shift]
            if (cells[0].source, cells[0].cell_type) != (cells[1].source, cells[1].cell_type):
                changes.append(make_change("changed", *cells))
    return changes


def reduce_to_sources(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy of a notebook without outputs, counts and metadata."""
    reduced = clear_outputs(notebook)
    reduced.metadata = nbformat.NotebookNode()
    for cell in reduced.cells:
        cell.metadata = nbformat.NotebookNode()
    return reduced


def clear_outputs(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy of a notebook without outputs and counts."""
    cleared = copy.deepcopy(notebook)
    for cell in cleared.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return cleared


def make_change(change: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> CellChange:
    """Describe the change of one cell."""
    cell = after or before or {}
    sources = [None if one is None else str(one["source"]) for one in (before, after)]
    return CellChange(str(cell.get("id", "")), str(cell["cell_type"]), change, *sources)


def merge_three_way(base: nbformat.NotebookNode, own: nbformat.NotebookNode, shared: nbformat.NotebookNode) -> Merged:
    """Merge the changes of two notebooks since the one that both came from.

    Cells keep their ids, and those of `own` that the merge leaves alone their outputs. Where both changed the same, the
    source has conflict markers: `local` is `own`, `remote` is `shared`. A cell that only one removed begins with
    `<<<<<<< REMOTE CELL DELETED >>>>>>>`.
    """
    from nbdime.merging.notebooks import apply_decisions, decide_notebook_merge

    logging.getLogger("nbdime").setLevel(logging.ERROR)  # it would warn about conflicts, which are reported
    old = clear_outputs(base)
    decisions = decide_notebook_merge(old, clear_outputs(own), clear_outputs(shared))
    merged = apply_decisions(old, decisions)
    repair_ids(merged)
    restore_cell_outputs(merged, own)
    named = [name for one in decisions if one.conflict for name in list_conflicting(one, old)]
    return Merged(merged, tuple(dict.fromkeys([*named, *list_marked_cells(merged)])))


def repair_ids(notebook: nbformat.NotebookNode) -> None:
    """Give each cell one id that no other cell has: nbdime records both ids of two cells that it merges into one."""
    taken: set[str] = set()
    for cell in notebook.cells:
        name = cell.get("id")
        name = name.get("local_id") if isinstance(name, Mapping) else name
        cell.id = name if name and name not in taken else nbformat.v4.new_raw_cell().id
        taken.add(cell.id)


def restore_cell_outputs(notebook: nbformat.NotebookNode, own: nbformat.NotebookNode) -> None:
    """Give back the outputs of the cells whose source is as it was."""
    before = {cell.get("id"): cell for cell in own.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        old = before.get(cell.id)
        if old is not None and cell.cell_type == "code" and old.source == cell.source:
            cell.outputs, cell.execution_count = old.outputs, old.execution_count


def list_conflicting(decision: Any, base: nbformat.NotebookNode) -> Iterator[str]:
    """Yield the ids of the cells that a conflict of nbdime is about; `metadata` if it is about the notebook's."""
    kind, *rest = decision.common_path or (METADATA,)
    if kind != "cells":
        yield METADATA
    elif rest:
        yield str(base.cells[rest[0]].get("id"))
    else:
        for operation in [*(decision.local_diff or ()), *(decision.remote_diff or ())]:
            if operation.op == "addrange":
                yield from (str(cell.get("id")) for cell in operation.valuelist)
            else:
                n_cells = operation.length if operation.op == "removerange" else 1
                yield from (str(cell.get("id")) for cell in base.cells[operation.key : operation.key + n_cells])


def list_marked_cells(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the ids of the cells with conflict markers; also `metadata` if that of the notebook has conflicts."""
    marked = [
        str(cell.get("id"))
        for cell in notebook.cells
        if CONFLICT_MARKER.search(cell.source) or RECORDED in cell.metadata
    ]
    return [*marked, *([METADATA] if RECORDED in notebook.metadata else [])]


def locate_conflicts(notebook: nbformat.NotebookNode, cells: Iterable[str]) -> tuple[Conflict, ...]:
    """Return where a merged notebook's conflicts are, one for each marker that opens one in the given cells."""
    sources = {str(cell.get("id")): cell.source for cell in notebook.cells}
    found = []
    for cell in cells:
        lines = enumerate(sources.get(cell, "").splitlines(), 1)
        marked = [number for number, line in lines if line.startswith(OPENING)]
        found += [Conflict(cell, number) for number in marked] or [Conflict(cell)]
    return tuple(found)
