"""Which cells of a notebook belong on its page: tags such as `if:data.time` name the parameter they depend on.

A section on what changes with time has no place on the page of a table without times. Its cells still run; only the
page leaves them out.
"""

from collections.abc import Mapping
from typing import Any

from nbformat import NotebookNode

from labkit.errors import StageError
from labkit.run.cell_states import INJECTED

IF, UNLESS = "if:", "unless:"
DECLARED, APPENDIX = "parameters", "appendix"


def select_cells(cells: list[NotebookNode], params: Mapping[str, Any] | None) -> list[NotebookNode]:
    """Return the cells that apply under these parameters, without the declared defaults if values were injected.

    A tag is `if:` or `unless:` and the dotted name of a parameter, with `=` and a value where not any will do;
    `|` stands between alternatives. Of several tags all must allow the cell.

    Parameters
    ----------
    cells
        In their order.
    params
        Of the whole experiment, as plain nested data. None keeps cells with conditions.

    Raises
    ------
    StageError
        A condition names no parameter.

    Examples
    --------
    >>> from nbformat.v4 import new_markdown_cell
    >>> cells = [new_markdown_cell("## Over time", metadata={"tags": ["if:data.time"]}), new_markdown_cell("## Rows")]
    >>> [cell.source for cell in select_cells(cells, {"data": {"time": None}})]
    ['## Rows']
    """
    has_injected = any(INJECTED in list_tags(cell) for cell in cells)
    return [
        cell
        for cell in cells
        if not (has_injected and DECLARED in list_tags(cell))
        and (params is None or all(is_met(tag, params) for tag in list_tags(cell)))
    ]


def move_to_appendix(cells: list[NotebookNode]) -> tuple[list[NotebookNode], list[NotebookNode]]:
    """Return the cells of the body and those of the appendix: parameters, set-up and what is tagged `appendix`.

    The output of a code cell stays in the body; only its source moves. A cell in which the stage stopped stays whole.

    >>> from nbformat.v4 import new_code_cell
    >>> body, appendix = move_to_appendix([new_code_cell("import labkit", metadata={"tags": ["appendix"]})])
    >>> [cell.source for cell in body], [cell.source for cell in appendix]
    ([''], ['import labkit'])
    """
    body, appendix = [], []
    for cell in cells:
        tags = list_tags(cell)
        if not {DECLARED, INJECTED, APPENDIX} & set(tags) or cell.metadata.get("report_state"):
            body.append(cell)
            continue
        if cell.cell_type == "code":
            outputs = NotebookNode({**cell, "source": ""})
            body.append(outputs)
            cell = NotebookNode({**cell, "id": f"{cell.get('id', '')}-source", "outputs": []})
        appendix.append(cell)
    return body, appendix


def list_tags(cell: NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return list(cell.metadata.get("tags", []))


def is_met(tag: str, params: Mapping[str, Any]) -> bool:
    """Return whether a tag allows its cell: any of the parameters between `|` is set, or none with `unless:`."""
    prefix = next((prefix for prefix in (IF, UNLESS) if tag.startswith(prefix)), None)
    if prefix is None:
        return True
    return any(is_set(condition, params) for condition in tag.removeprefix(prefix).split("|")) is (prefix == IF)


def is_set(condition: str, params: Mapping[str, Any]) -> bool:
    """Return whether a parameter is set, or is or holds the value after `=`.

    Raises
    ------
    StageError
        There is no such parameter.
    """
    name, _, expected = condition.partition("=")
    value: Any = params
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise StageError(f"tag of a cell: no parameter {name!r}: see `labkit params`")
        value = value[key]
    if not expected:
        return bool(value)
    return expected in map(str, value if isinstance(value, list) else [value])
