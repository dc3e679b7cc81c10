"""Keeps the artifact paths in the embedded MLflow store correct after the checkout was copied or moved.

MLflow writes absolute paths into its database. After a copy or a move they point to the old folder: new artifacts would
be written there, and earlier ones are not found. The paths are corrected before the store is used. Does not import
MLflow; only the names of its tables are used.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from labkit.errors import TrackingError
from labkit.storage.atomic import atomic_folder, copy_file
from labkit.storage.digests import list_files
from labkit.storage.locks import hold_lock
from labkit.units import format_count

FOLDER = "mlruns"
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
    ("trace_tags", "value"),
)
"""The columns of MLflow's database with paths of artifacts."""
SQLITE_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Moved:
    """One experiment whose artifacts the store expects in another folder than the checkout's own.

    Attributes
    ----------
    before, after
        Addresses of its artifacts: in the database now, and the correct ones.
    """

    before: str
    after: str
    n_runs: int

    @property
    def folder(self) -> Path:
        """The folder in the database, the same for most experiments."""
        return make_path(self.before).parent


def make_root(database: Path) -> str:
    """Return the address of the folder with the artifacts of an embedded store, beside its database."""
    return (database.parent / FOLDER).as_uri()


def find_moved(database: Path) -> list[Moved]:
    """Return the experiments of a checkout's own store whose artifact paths point to another checkout.

    These are folders that labkit created and that were copied into this checkout or no longer exist. Experiments with
    a user-defined location are left alone.

    Raises
    ------
    TrackingError
        The database cannot be read.
    """
    if not database.is_file() or database.stat().st_size == 0:
        return []
    try:
        with open_database(database, mode="ro") as connection:
            rows = connection.execute("select artifact_location from experiments order by experiment_id").fetchall()
            pairs = [(str(place), find_place(str(place), database)) for (place,) in rows]
            return [Moved(old, new, count_runs_below(connection, old)) for old, new in pairs if new is not None]
    except sqlite3.Error as error:
        raise TrackingError(f"{database}: cannot be read ({error}): restore it from a copy") from error


def find_place(before: str, database: Path) -> str | None:
    """Return the correct location of an experiment's artifacts, None if the present one is correct or user-defined."""
    root, _, name = before.rpartition("/")
    here = make_root(database)
    if not root.endswith(f"/{FOLDER}") or not root.startswith(("/", "file:///")) or make_path(root) == make_path(here):
        return None
    is_copied = (make_path(here) / make_path(before).name).is_dir()
    return f"{here}/{name}" if is_copied or not make_path(before).exists() else None


def make_path(address: str) -> Path:
    """Return the path of a local address.

    >>> make_path("file:///work/50%25/mlruns"), make_path("/work/50%/mlruns")
    (PosixPath('/work/50%/mlruns'), PosixPath('/work/50%/mlruns'))
    """
    return Path(unquote(address.removeprefix("file://"))) if address.startswith("file:") else Path(address)


@contextmanager
def open_database(database: Path, *, mode: str) -> Iterator[sqlite3.Connection]:
    """Open a database for reading (`ro`) or writing (`rw`), in one transaction."""
    address = f"{database.as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True, timeout=SQLITE_TIMEOUT_SECONDS)) as connection, connection:
        yield connection


def count_runs_below(connection: sqlite3.Connection, before: str) -> int:
    """Return the number of runs with artifacts below an address."""
    count = "select count(*) from runs where substr(artifact_uri, 1, ?) = ?"
    return int(connection.execute(count, [len(before) + 1, f"{before}/"]).fetchone()[0])


def correct_locations(database: Path) -> None:
    """Correct the artifact paths in a checkout's own store, and log a warning if any were wrong.

    Artifacts that were written to the old folder after the move are copied.
    """
    if not find_moved(database):
        return
    with hold_lock(database.with_name(f"{database.name}.lock")):
        found = find_moved(database)
        for moved in found:
            fetch_artifacts(database, moved)
        rewrite(database, found)
    for folder in sorted({moved.folder for moved in found if moved.n_runs}):
        n_runs = sum(moved.n_runs for moved in found if moved.folder == folder)
        logging.getLogger("labkit").warning(
            "this checkout was copied or moved: the artifacts of %s, which were looked for in %s, are now in %s",
            *(format_count(n_runs, "run"), folder, FOLDER),
        )


def rewrite(database: Path, found: Iterable[Moved]) -> None:
    """Replace the old prefix of every path in one transaction."""
    try:
        with open_database(database, mode="rw") as connection:
            connection.execute("begin immediate")
            for table, column in list_location_columns(connection):
                for moved in found:
                    n, old = len(moved.before), moved.before
                    connection.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) "
                        f"where {column} = ? or substr({column}, 1, ?) = ?",
                        [moved.after, n + 1, old, n + 1, f"{old}/"],
                    )
    except sqlite3.Error as error:
        raise TrackingError(f"{database}: cannot be corrected ({error}): stop what uses it, then try again") from error


def list_location_columns(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield the columns with paths that exist in this version of MLflow's database."""
    for table, column in COLUMNS:
        if column in [row[1] for row in connection.execute(f"pragma table_info({table})")]:
            yield table, column


def fetch_artifacts(database: Path, moved: Moved) -> None:
    """Copy artifacts that exist only in the old folder; nothing there is changed."""
    with open_database(database, mode="ro") as connection:
        rows = connection.execute("select artifact_uri from runs where artifact_uri is not null").fetchall()
    for (address,) in rows:
        if not address.startswith(f"{moved.before}/"):
            continue
        there, here = make_path(address), make_path(moved.after + address.removeprefix(moved.before))
        if here.exists() or not there.is_dir():
            continue
        with atomic_folder(here) as beside:
            for file in list_files(there):
                copy_file(file, beside / file.relative_to(there))
