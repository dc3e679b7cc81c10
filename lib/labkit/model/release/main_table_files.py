"""Files of a release that let it predict rows of the main table: a spec as JSON, and rows of other tables as arrays."""

import json
from pathlib import Path

from labkit.errors import LabkitError, ModelError
from labkit.features.main_table import MainTable, pack_rows, unpack_rows
from labkit.storage.atomic import parse_json
from labkit.storage.npz import load_arrays
from labkit.units import format_count

MAIN_TABLE, MAIN_TABLE_ROWS = "main_table.json", "main_table.npz"
"""Releases made earlier, and those that need nothing of the kind, have none."""


def make_main_table_files(main_table: MainTable | None) -> dict[str, bytes]:
    """Return the files by name; none for None. The rows are those of all tables that are joined without a time."""
    if main_table is None:
        return {}
    text = json.dumps(main_table.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
    return {MAIN_TABLE: f"{text}\n".encode(), MAIN_TABLE_ROWS: pack_rows(main_table.rows)}


def describe_main_table(main_table: MainTable | None, reason: str) -> str:
    """Describe in a sentence which rows a release takes.

    Parameters
    ----------
    reason
        Why `main_table` is None.
    """
    if main_table is None:
        return f"Requests have the columns of the model: {reason}."
    parts = [
        f"carried: {format_count(len(next(iter(rows.values()))), f'row of {table}', f'rows of {table}')}"
        for table, rows in main_table.rows.items()
    ]
    parts += [f"rows of {table} are given where it is used" for table in main_table.list_unknown()]
    return "; ".join([f"Rows of the main table need {format_count(len(main_table.columns), 'column')}", *parts]) + "."


def load_main_table(folder: Path) -> MainTable | None:
    """Load what a release that has been verified says of the main table; None if it says nothing.

    Raises
    ------
    ModelError
        The files are not as labkit writes them.
    """
    path = folder / MAIN_TABLE
    if not path.is_file():
        return None
    try:
        return MainTable.from_json(parse_json(path.read_bytes()), unpack_rows(load_arrays(folder / MAIN_TABLE_ROWS)))
    except (ValueError, TypeError, KeyError, AttributeError, LabkitError) as error:
        raise ModelError(f"{path}: not written by labkit, or damaged: do not use this release") from error
