"""Rows of joined tables that reach a service while it runs, such as the latest weather.

Each table has a file of its own in the state folder, one line per request, to which any worker appends. Every worker
reads what was added, so all join the same rows, after a restart and with another model too. Rows that are no longer
needed are removed; see `labkit.serving.table_pruning`.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from labkit.errors import DataError, name_nearest, shorten
from labkit.features.arrays import make_array
from labkit.features.main_table import MainTable, Rows
from labkit.serving.fed_files import MOST_FED_BYTES, FedFile
from labkit.serving.main_rows import MainRows, decode_rows
from labkit.serving.outcome_pruning import KEPT_DAYS
from labkit.serving.requests import LONGEST_NAME, MOST_ROWS, Fault, RequestError, RowReader, has_repeated_key
from labkit.serving.row_forms import RowForms
from labkit.serving.table_pruning import Key, Line, Needed, decode_sent, find_needed_keys, prune_rows
from labkit.storage.append import append_line

TABLES = "tables"
"""Name of the folder of the files in that of what a service keeps."""
MOST_FED_ROWS = 500_000
"""Most rows of one table that a service keeps."""

ANY_ROWS = {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MOST_ROWS}
TABLE_ROWS = {
    "type": "object",
    "properties": {"rows": ANY_ROWS},
    "required": ["rows"],
    "additionalProperties": False,
}
"""JSON schema of a request with rows of a joined table, whose columns `/model` lists."""


@dataclass
class FedTable:
    """What is known of one table: its file, and the latest row of each key.

    Attributes
    ----------
    n_damaged
        Lines that cannot be read, or only without some of their rows.
    n_refused
        Rows of these lines that are not as the model needs them.
    n_failures
        How often the rows could not be joined, so that those known before went on.
    pruned_at
        When this process looked last for rows to remove, in seconds since 1970.
    """

    file: FedFile
    rows: dict[Key, Any] = field(default_factory=dict)
    fed_at: float | None = None
    n_damaged: int = 0
    n_refused: int = 0
    n_failures: int = 0
    pruned_at: float = 0.0


class FedTables:
    """The rows that were fed to the tables that one model joins.

    Parameters
    ----------
    folder
        Folder of the files, one per table: `<table>.jsonl`.
    main_rows
        The reader of the model's requests, which joins what was fed once `refresh` has read it.
    """

    def __init__(self, folder: Path, main_rows: MainRows) -> None:
        self.folder, self.main_rows, self.base = folder, main_rows, main_rows.main_table
        self.tables = {name: FedTable(FedFile(folder / f"{name}.jsonl")) for name in self.base.tables}
        self.readers = {name: RowReader(kinds, self.agree(name)) for name, kinds in self.base.tables.items()}
        self.lock = threading.Lock()

    def list_keys(self, table: str) -> list[str]:
        """Return the columns of a table that tell its rows apart: its keys, and its time."""
        joins = [join for join in self.base.joins if join.table == table]
        named = [name for join in joins for name in (*join.keys.values(), *([join.as_of] if join.as_of else []))]
        return list(dict.fromkeys(named))

    def agree(self, table: str) -> dict[str, dict[str, Any]]:
        """Return what rows of a table must satisfy: keys and times are never missing."""
        return {**self.base.agreed.get(table, {}), **{name: {"nullable": False} for name in self.list_keys(table)}}

    def add(self, table: str, body: bytes) -> dict[str, int]:
        """Record the rows of a request, which are on disk and joined here when this returns.

        Parameters
        ----------
        body
            `{"rows": [{...}, ...]}`: all columns that the model needs of the table; others are kept for later models. A
            row replaces an earlier one of the same keys and time.

        Raises
        ------
        RequestError
            400 for a repeated name, 404 for an unknown table, 413 for too many rows or a full file, 422 for what is not
            as declared.
        """
        if table not in self.tables:
            named = name_nearest(shorten(table, LONGEST_NAME), self.tables)
            raise RequestError(404, Fault(f"the model joins no such table: {named}"))
        rows = decode_rows(body)
        if rows is None:
            raise RequestError(422, Fault('the body is not an object with "rows", a list of rows'))
        if has_repeated_key(body):
            raise RequestError(400, Fault("a name occurs twice in one object: send each column once"))
        found = self.read_rows(table, rows)
        line = msgspec.json.encode(Line(time.time(), rows)).decode()
        with self.lock:
            self.refresh_all()
            if self.prune(table):
                self.refresh_all()
            merged = {**self.tables[table].rows, **found}
            where = f"remove tables/{table}.jsonl from the service's folder first"
            remedy = f"{where}, and send the rows again that are still needed"
            if len(merged) > MOST_FED_ROWS:
                limit = f"at most {MOST_FED_ROWS:,} are kept: {remedy}"
                raise RequestError(413, Fault(f"the table would have {len(merged):,} rows, {limit}"))
            if (n_bytes := self.tables[table].file.offset + len(line.encode()) + 1) > MOST_FED_BYTES:
                limit = f"at most {MOST_FED_BYTES:,} are kept: {remedy}"
                raise RequestError(413, Fault(f"the file of the table would have {n_bytes:,} bytes, {limit}"))
            try:
                self.merge(self.base, table, merged)
            except DataError as error:
                raise RequestError(422, Fault(str(error))) from error
            append_line(self.folder / f"{table}.jsonl", line, mode=0o600)
            self.refresh_all()
            return {"recorded": len(found), "rows": len(self.tables[table].rows)}

    def prune(self, table: str) -> int:
        """Remove what is no longer needed from the file of a table, at most once a day; the lock is held."""
        known, now = self.tables[table], time.time()
        if now - known.pruned_at <= 86_400:
            return 0
        known.pruned_at, cutoff = now, now - KEPT_DAYS * 86_400
        joins = [join for join in self.base.joins if join.table == table]
        keys = find_needed_keys(known.rows, self.list_keys(table), joins, cutoff=cutoff)
        return prune_rows(known.file.path, Needed(keys, cutoff, partial(self.list_row_keys, table)))

    def refresh(self) -> None:
        """Join what was added to the files since the last time."""
        with self.lock:
            self.refresh_all()

    def refresh_all(self) -> None:
        """Read all files that changed; the lock is held."""
        main_table = self.main_rows.main_table
        for table in self.tables:
            if self.read_file(table):
                try:
                    main_table = self.merge(main_table, table, self.tables[table].rows)
                except DataError as error:  # written by hand, or for a model with other keys
                    self.tables[table].n_failures += 1
                    logging.getLogger(__name__).warning("the rows of the table %s cannot be joined: %s", table, error)
        self.main_rows.main_table = main_table

    def read_file(self, table: str) -> bool:
        """Read what was added to a table's file, or all of another file; False if nothing changed."""
        file = self.tables[table].file
        is_changed = file.is_replaced()
        if is_changed:
            self.tables[table] = FedTable(file, pruned_at=self.tables[table].pruned_at)
        for line in file.read():
            self.read_line(table, line)
            is_changed = True
        return is_changed

    def read_line(self, table: str, line: bytes) -> None:
        """Read the rows of one line; those that are not as the model needs them are left out and counted."""
        known = self.tables[table]
        read = decode_sent(line)
        if read is None:
            known.n_damaged += 1
            return
        known.fed_at = read.time
        try:
            known.rows |= self.read_rows(table, read.rows)
        except RequestError:
            known.n_damaged += 1
            for row in read.rows:
                try:
                    known.rows |= self.read_rows(table, [row])
                except RequestError:
                    known.n_refused += 1

    def read_rows(self, table: str, rows: Sequence[Any]) -> dict[Key, Any]:
        """Return rows given as dictionaries, checked, by their keys."""
        keys, read = self.key_rows(table, rows)
        return dict(zip(keys, read, strict=True))

    def list_row_keys(self, table: str, rows: Sequence[Any]) -> list[Key | None]:
        """Return the key of each row, None for one that is not as the model needs it."""
        try:
            return [*self.key_rows(table, rows)[0]]
        except RequestError:
            return [None] if len(rows) == 1 else [key for row in rows for key in self.list_row_keys(table, [row])]

    def key_rows(self, table: str, rows: Sequence[Any]) -> tuple[list[Key], list[Any]]:
        """Return the keys of rows given as dictionaries, and the rows, checked."""
        reader, kinds = self.readers[table], self.base.tables[table]
        read = reader.convert(rows)
        columns = reader.make_columns(read).values
        try:
            keys = [make_array(columns[name], kinds[name], name).tolist() for name in self.list_keys(table)]
        except DataError as error:
            raise RequestError(422, Fault(str(error))) from error
        return [*zip(*keys, strict=True)], read

    def find_new(self, table: str, rows: Sequence[Any]) -> list[Any]:
        """Return those of some rows that are not known as they are, in a form that is encoded with their names."""
        self.refresh()
        known, reader = self.tables[table].rows, self.readers[table]
        return [reader.name_values(row) for key, row in self.read_rows(table, rows).items() if known.get(key) != row]

    def merge(self, main_table: MainTable, table: str, fed: Mapping[Key, Any]) -> MainTable:
        """Return the main table with the rows that were fed, and those of the release with other keys."""
        if not fed and table not in self.base.rows:
            rest = {name: rows for name, rows in main_table.rows.items() if name != table}
            return main_table.with_all_rows(rest)
        made: Rows = self.readers[table].make_columns(list(fed.values())).values
        carried = self.base.rows.get(table)
        if carried is not None:
            keys = zip(*(carried[name].tolist() for name in self.list_keys(table)), strict=True)
            kept = np.array([key not in fed for key in keys], bool)
            kinds = self.base.tables[table]
            made = {
                name: np.concatenate([carried[name][kept], make_array(made[name], kind, name)])
                for name, kind in kinds.items()
            }
        return main_table.with_rows(table, made)

    def describe(self) -> dict[str, Any]:
        """Return for each joined table how many rows there are, the latest time, and the age of what was fed last."""
        found: dict[str, Any] = {}
        for join, arranged in zip(self.base.joins, self.main_rows.main_table.arranged, strict=True):
            fed_at = self.tables[join.table].fed_at
            found[join.table] = {
                "rows": 0 if arranged is None else arranged.n_rows,
                "latest": None if arranged is None or arranged.latest is None else f"{arranged.latest}Z",
                "fed_at": None if fed_at is None else datetime.fromtimestamp(fed_at, UTC).isoformat(timespec="seconds"),
                "age_seconds": None if fed_at is None else round(time.time() - fed_at, 1),
                "damaged_lines": self.tables[join.table].n_damaged,
                "refused_rows": self.tables[join.table].n_refused,
                "failed_joins": self.tables[join.table].n_failures,
            }
        return found


def open_fed_tables(forms: RowForms, state_dir: Path) -> FedTables | None:
    """Return the rows of joined tables that were sent to a service; None if the model joins none.

    Parameters
    ----------
    state_dir
        Folder of what the service keeps.
    """
    main_rows = forms.main_rows
    if main_rows is None or not main_rows.main_table.joins:
        return None
    return FedTables(state_dir / TABLES, main_rows)
