"""What a kernel knows that the saved notebook does not show: cells edited, deleted, or run out of order."""

import ast
import copy
from collections.abc import Iterator, Sequence

from nbformat import NotebookNode

from labkit.run.records.interactive import Executed
from labkit.run.saved_cells.code_cells import parse_cell, read_code_cells
from labkit.run.saved_cells.static_checks import find_disorder
from labkit.run.saved_cells.undefined_names import find_bound, find_undefined
from labkit.secrets.redaction import Mask
from labkit.units import format_count


def find_hidden_state(notebook: NotebookNode, executed: Sequence[Executed], *, mask: Mask) -> list[str]:
    """Return warnings about what the results of a kernel rest on, and the notebook as it is saved does not show.

    Parameters
    ----------
    notebook
        The notebook as it is saved.
    executed
        What the kernel has executed, in this order, without secrets.
    mask
        Removes secrets from cells, as from what was executed.
    """
    known = {
        mask.clean_text(cell.source).strip(): cell.get("id", "") for cell in notebook.cells if cell.cell_type == "code"
    }
    last: dict[str, Executed] = {}
    lost = []
    for one in executed:
        cell_id = one.cell_id or known.get(one.source.strip(), "")
        if cell_id:
            last[cell_id] = one
        elif one.source.strip():
            lost.append(one)
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.execution_count = last[cell.id].count if cell.get("id") in last else None
    cells = list(read_code_cells(made))
    undefined = list(find_undefined(cells))
    found = [*find_disorder(cells), *undefined]
    found += [
        cell.find(None, "edited", f"was edited after it ran as [{last[cell.cell_id].count}]")
        for cell in cells
        if cell.cell_id in last and last[cell.cell_id].source.strip() != mask.clean_text(cell.source).strip()
    ]
    there = {cell.cell_id for cell in cells}
    lost += [one for cell_id, one in last.items() if cell_id not in there]
    missing = {finding.name for finding in undefined}
    return [
        *(finding.describe() for finding in sorted(found, key=lambda one: (one.cell, one.kind))),
        *describe_lost(sorted(lost, key=lambda one: one.count), missing),
    ]


def describe_lost(lost: Sequence[Executed], missing: set[str]) -> Iterator[str]:
    """Yield a warning for executed code that no saved cell holds, with the names that are still used of it."""
    for one in lost:
        tree, _, bound = parse_cell(one.source)
        names = sorted(missing & (find_bound(ast.walk(tree)) | bound)) if tree else []
        used = f"; still used of it: {', '.join(names)}" if names else ""
        n_lines = format_count(len(one.source.strip().splitlines()), "line")
        yield f"[{one.count}] ran code that no cell holds any more ({n_lines}): deleted{used}"
