"""Where the embedded MLflow store says that artifacts are: beside its database, wherever the checkout lies.

MLflow writes whole paths into its database. After a checkout has been copied or moved they lead to the old place: what
is recorded from then on would go there, and what was recorded is not found. Here they are corrected before the store
is used. Knows nothing of MLflow itself but the names of its tables.
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
"""Where MLflow's database keeps places of artifacts."""
SQLITE_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Moved:
    """One experiment whose artifacts the store looks for in another folder than the checkout's own.

    Attributes
    ----------
    before, after
        Addresses of its artifacts: as they stand in the database, and as they should.
    """

    before: str
    after: str
    n_runs: int

    @property
    def folder(self) -> Path:
        """The folder that the store looks in, the same for most experiments."""
        return make_path(self.before).parent


def make_root(database: Path) -> str:
    """Return the address of the folder with the artifacts of an embedded store, beside its database."""
    return (database.parent / FOLDER).as_uri()


def find_moved(database: Path) -> list[Moved]:
    """Return the experiments of a checkout's own store that have their artifacts in another place.

    That is a folder as labkit makes it of which this checkout has the artifacts, or which is not there any more. An
    experiment that somebody has given a place of its own is left alone.

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
    """Return where the artifacts of an experiment should be, None if they are there or have a place of their own."""
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
    """Return how many runs have their artifacts below a place."""
    count = "select count(*) from runs where substr(artifact_uri, 1, ?) = ?"
    return int(connection.execute(count, [len(before) + 1, f"{before}/"]).fetchone()[0])


def correct_locations(database: Path) -> None:
    """Let a checkout's own store look for artifacts beside its database, and say so if it did not.

    Runs that were recorded after the checkout had been moved, and whose artifacts went to the old place, get copies.
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
    """Replace the beginning of every place that lies below an old one, all at once."""
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
        raise TrackingError(f"{database}: cannot be corrected ({error}): end what uses it, then try again") from error


def list_location_columns(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield those of MLflow's columns with places that this version of it has."""
    for table, column in COLUMNS:
        if column in [row[1] for row in connection.execute(f"pragma table_info({table})")]:
            yield table, column


def fetch_artifacts(database: Path, moved: Moved) -> None:
    """Copy the artifacts of runs that are at an old place and not here; nothing there is changed."""
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
