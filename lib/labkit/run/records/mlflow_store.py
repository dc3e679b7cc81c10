"""Prepares the MLflow store before it is used: a server that responds, or a complete and current database.

MLflow creates its database on first use. Several processes at once corrupt it, and a killed one leaves it incomplete.
Here it is created once, under a lock, in a temporary file. Does not import MLflow: see `labkit.run.records.tracking`.
"""

import importlib.util
import logging
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from labkit import paths
from labkit.errors import TrackingError
from labkit.run.records import postgresql
from labkit.storage.atomic import atomic_write
from labkit.storage.locks import hold_lock

SERVER_TIMEOUT_SECONDS = 3
DRIVERS = {"postgresql": "psycopg", "mysql": "mysqldb", "mssql": "pyodbc"}
"""The default driver of each kind of database."""
DRIVER_PACKAGES = {
    "mysqldb": "MySQLdb",
    **{name: name for name in ("psycopg", "psycopg2", "pymysql", "pyodbc", "pymssql")},
}
"""The package of each driver; for other drivers MLflow checks itself."""
Build = Callable[[Path], None]
"""Creates a database in an empty file, or upgrades an existing one."""


def find_store_kind(uri: str) -> str:
    """Return the kind of store of an address: `server`, `sqlite`, another kind of database, or `other`.

    >>> [find_store_kind(uri) for uri in ("http://host:5000", "postgresql+psycopg://host/runs", "sqlite:///runs.db")]
    ['server', 'postgresql', 'sqlite']
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return "server"
    return scheme if scheme in ("sqlite", *DRIVERS) else "other"


def name_store() -> str:
    """Return the name of the current store in the ledger; that of the checkout's own store has no path."""
    uri = paths.get_tracking_uri()
    own = paths.find_own_store()
    return own.name if paths.find_sqlite_file(uri) == own else paths.show_address(uri)


def is_store(name: str) -> bool:
    """Return whether a name in the ledger is that of the current store, also from before the checkout was moved."""
    own = paths.find_own_store()
    if name == name_store():
        return True
    # Earlier versions recorded the full address of the own store, possibly of the checkout it was copied from.
    file = paths.find_sqlite_file(name)
    if file is None or file.name != own.name or name_store() != own.name:
        return False
    return not file.exists() or (file.parent / paths.MARKER).exists()


def describe_viewing() -> str:
    """Return how to view runs: the address of the server, or a command."""
    uri = paths.get_tracking_uri()
    if find_store_kind(uri) == "server":
        return paths.show_address(uri)
    if paths.find_sqlite_file(uri) == paths.find_own_store():
        # If the path has to be quoted, MLflow would create folders with the quoted name.
        named = " --backend-store-uri sqlite:///mlflow.db" if "+" in uri.partition(":")[0] else ""
        return f"mlflow ui{named}   (in the checkout's root, then open the address it prints)"
    return 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"   (then open the address it prints)'


def check_store(uri: str) -> None:
    """Raise an error for a tracking address that cannot be used, before anything starts.

    Raises
    ------
    TrackingError
        The server does not respond, the driver is not installed, or the database refuses the connection.
    """
    kind = find_store_kind(uri)
    if kind == "server":
        check_server(paths.show_address(uri))
    elif kind in DRIVERS:
        check_driver(uri)
        if kind == "postgresql":
            postgresql.check_database(uri)
    elif urlsplit(uri).scheme in ("", "file"):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is {paths.show_address(uri)!r}, a folder, in which MLflow no longer records: use "
            "http(s)://, postgresql:// or sqlite:///, or unset it to record in mlflow.db; nothing was run"
        )


def check_existing_store() -> bool:
    """Check the current store as `check_store` does; return False for an embedded one that does not exist yet.

    To open that would create it.
    """
    uri = paths.get_tracking_uri()
    file = paths.find_sqlite_file(uri)
    if file is not None and not file.exists():
        return False
    check_store(uri)
    return True


def check_embedded_experiment(name: str) -> bool:
    """Raise an error for an experiment deleted in an embedded store; return whether the store is embedded.

    Raises
    ------
    TrackingError
        The experiment was deleted, or the file is not a database of MLflow.
    """
    file = paths.find_sqlite_file(paths.get_tracking_uri())
    if file is None:
        return False
    if read_version(file) is None:
        return True
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            query = "select experiment_id from experiments where name = ? and lifecycle_stage = 'deleted'"
            found = connection.execute(query, [name]).fetchone()
    except sqlite3.Error as error:
        raise TrackingError(explain_damage(file, str(error))) from error
    if found:
        raise TrackingError(explain_deleted(name, str(found[0])))
    return True


def explain_deleted(name: str, experiment_id: str) -> str:
    """Return the message about an experiment that was deleted in MLflow."""
    return (
        f"the experiment {name!r} was deleted in MLflow, so nothing can be recorded in it: restore it with "
        f"`mlflow experiments restore --experiment-id {experiment_id}`; nothing was run"
    )


def check_server(address: str) -> None:
    """Raise an error if the tracking server does not respond."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=SERVER_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # the server is running; MLflow reports itself if access is denied
            return
        problem = f"it responds with {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        problem = str(getattr(error, "reason", error))
    raise TrackingError(
        f"{address}: no tracking server responds there ({problem}): start it, or unset MLFLOW_TRACKING_URI "
        "to record in mlflow.db; nothing was run"
    )


def check_driver(uri: str) -> None:
    """Raise an error if the driver of a database is not installed."""
    scheme = urlsplit(uri).scheme
    package = DRIVER_PACKAGES.get(scheme.partition("+")[2] or DRIVERS[scheme])
    if package is not None and importlib.util.find_spec(package) is None:
        remedy = "uv pip install 'labkit[postgresql]'" if package == "psycopg" else f"install {package}"
        raise TrackingError(
            f"{paths.show_address(uri)}: the package {package}, needed for this database, is not installed: "
            f"{remedy}; nothing was run"
        )


def prepare_database(path: Path, head: str, *, build: Build, upgrade: Build) -> None:
    """Create or upgrade a database, once and by one process, unless it has this version.

    Parameters
    ----------
    head
        The version that MLflow requires.

    Raises
    ------
    TrackingError
        The file is neither empty nor a database of MLflow, or the database cannot be upgraded.
    """
    if is_ready(path, head):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(path.with_name(f"{path.name}.lock")):
        if is_ready(path, head):
            return
        found = read_version(path)
        if found is None:
            create_database(path, build)
        else:
            upgrade_copy(path, found, upgrade)


def is_ready(path: Path, head: str) -> bool:
    """Return whether a database exists and has a version."""
    return read_version(path) == head


def read_version(path: Path) -> str | None:
    """Return the version of a database, or None.

    Raises
    ------
    TrackingError
        The file is something else, or an incomplete database.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            versions = connection.execute("select version_num from alembic_version").fetchall()
    except sqlite3.Error as error:
        raise TrackingError(explain_damage(path, str(error))) from error
    if len(versions) != 1:
        raise TrackingError(explain_damage(path, "it has no version"))
    return str(versions[0][0])


def explain_damage(path: Path, problem: str) -> str:
    """Return the message about a file that is not a complete database of MLflow."""
    return f"{path}: not a complete MLflow database ({problem}): move it away, and a new one is created in its place"


def create_database(path: Path, build: Build) -> None:
    """Create a database in a temporary file and move it into place."""
    with atomic_write(path) as beside:
        build(beside)
        use_log(beside)


def upgrade_copy(path: Path, found: str, upgrade: Build) -> None:
    """Keep a copy of an older database, upgrade another copy, and move that into place."""
    kept = path.with_name(f"{path.name}.before-upgrade-of-{found}")
    try:
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            # Merge the write-ahead log into the file: a log left there would be read as that of the new database.
            connection.execute("pragma journal_mode=delete").fetchall()
            with atomic_write(kept) as beside:
                copy(connection, beside)
            with atomic_write(path) as beside:
                copy(connection, beside)
                upgrade(beside)
                use_log(beside)
    except sqlite3.Error as error:
        raise TrackingError(
            f"{path}: cannot be brought up to date ({error}): stop what uses it, then try again"
        ) from error
    logging.getLogger("labkit").warning("%s was brought up to date; the old one is kept as %s", path.name, kept.name)


def copy(connection: sqlite3.Connection, path: Path) -> None:
    """Copy an open database to an empty file."""
    with closing(sqlite3.connect(path)) as target:
        connection.backup(target)


def use_log(path: Path) -> None:
    """Enable the write-ahead log, which lets readers and a writer work at once, where the file system supports it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=wal").fetchall()
