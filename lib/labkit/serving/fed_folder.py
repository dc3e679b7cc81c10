"""A folder with files of joined tables, from which a service keeps its tables current.

What is new in a file goes where `POST /tables/<table>` puts rows; see `labkit.serving.fed_tables`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from labkit.errors import ParamsError, get_first_line, list_briefly
from labkit.features.table_columns import take_columns
from labkit.params.experiment import Params
from labkit.serving.batch_tables import load_table_file
from labkit.serving.engine import Engine
from labkit.serving.fed_tables import FedTables
from labkit.serving.following import load_pointed
from labkit.serving.main_rows import list_values
from labkit.serving.requests import MOST_ROWS
from labkit.serving.settings import load_pointer
from labkit.serving.supervisor import Supervisor
from labkit.units import format_count

State = tuple[int, int, int]


@dataclass
class FedFolder:
    """The files of a folder, `<table>.<extension>`; see `labkit.serving.supervisor.Followed`.

    Attributes
    ----------
    report
        Shows a line to the user.
    seen, done
        State of each file when it was looked at last, and when it was read last.
    """

    folder: Path
    params: Params
    report: Callable[[str], object]
    seen: dict[Path, State] = field(default_factory=dict)
    done: dict[Path, State] = field(default_factory=dict)
    engine: Engine | None = None
    fault: str = ""

    def list_files(self) -> dict[str, Path]:
        """Return the file of each table that has one."""
        tables = {join.table for join in self.params.data.joins}
        found = sorted(path for path in self.folder.iterdir() if path.is_file())
        return {name: path for path in found if (name := path.name.partition(".")[0]) in tables}

    def follow(self, supervisor: Supervisor) -> None:
        """Take what is new in the files; called every few seconds."""
        try:
            self.look(supervisor)
        except Exception as error:  # whatever is wrong with the folder, the service goes on
            fault = f"--tables {self.folder}: {get_first_line(error)}"
            if fault != self.fault:
                self.report(fault)
            self.fault = fault
        else:
            self.fault = ""

    def look(self, supervisor: Supervisor) -> None:
        """Take what is new in the files for the model in force."""
        pointer = load_pointer(supervisor.folder / "current.json")
        if self.engine is None or self.engine.generation != pointer.generation:
            self.engine, self.done = load_pointed(pointer, supervisor.settings.state_dir), {}
            if self.engine.fed is None:
                self.report(f"{self.folder}: the model joins no tables, so no file is read")
        if self.engine.fed is not None:
            self.update(self.engine.fed)

    def update(self, fed: FedTables) -> None:
        """Take what is new in the files that changed, unless one is still being written."""
        for name, path in self.list_files().items():
            found = path.stat()
            state = (found.st_ino, found.st_size, found.st_mtime_ns)
            is_settled = self.seen.get(path, state) == state
            self.seen[path] = state
            if name not in fed.base.tables or not is_settled or self.done.get(path) == state:
                continue
            self.done[path] = state
            try:
                n_new = self.take(fed, name, path)
            except Exception as error:  # readers of files raise errors of many types
                self.report(f"table {name}: {error}; it is read again when it changes")
            else:
                self.report(f"table {name}: {format_count(n_new, 'new row')} in {path}")

    def take(self, fed: FedTables, table: str, path: Path) -> int:
        """Record the rows of a file that are not known yet, and return how many."""
        kinds = fed.base.tables[table]
        values = take_columns(load_table_file(table, path, self.params, kinds), kinds)
        columns = [list_values(values[name], kind, name) for name, kind in kinds.items()]
        rows = [dict(zip(kinds, row, strict=True)) for row in zip(*columns, strict=True)]
        n_new = 0
        for start in range(0, len(rows), MOST_ROWS):
            if new := fed.find_new(table, rows[start : start + MOST_ROWS]):
                n_new += fed.add(table, msgspec.json.encode({"rows": new}))["recorded"]
        return n_new


def open_folder(folder: Path, params: Params, report: Callable[[str], object]) -> FedFolder:
    """Return the files of a folder.

    Raises
    ------
    ParamsError
        No file is one of a joined table.
    """
    opened = FedFolder(folder, params, report)
    if not opened.list_files():
        tables = sorted({join.table for join in params.data.joins})
        known = f"name files as {list_briefly(f'{name}.csv' for name in tables)}" if tables else "no table is joined"
        raise ParamsError(f"--tables {folder}: has no file of a joined table: {known}")
    return opened
