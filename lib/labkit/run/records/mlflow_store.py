"""The MLflow store before it is used: a server that answers, or a database that is whole and up to date.

MLflow makes its database on first use, which several processes at once tear and a killed one leaves half made. Here it
is made once, under a lock, beside its place. Knows nothing of MLflow itself: see `labkit.run.records.tracking`.
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
"""What speaks to each kind of database, where its address names nothing else."""
DRIVER_PACKAGES = {
    "mysqldb": "MySQLdb",
    **{name: name for name in ("psycopg", "psycopg2", "pymysql", "pyodbc", "pymssql")},
}
"""The package of each driver; whether others are there is found out by MLflow."""
Build = Callable[[Path], None]
"""Makes a database in an empty file, or brings an older one up to date."""


def find_store_kind(uri: str) -> str:
    """Return what kind of store an address is of: `server`, `sqlite`, a kind of database, or `other`.

    >>> [find_store_kind(uri) for uri in ("http://host:5000", "postgresql+psycopg://host/runs", "sqlite:///runs.db")]
    ['server', 'postgresql', 'sqlite']
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return "server"
    return scheme if scheme in ("sqlite", *DRIVERS) else "other"


def name_store() -> str:
    """Return what the ledger calls the store that is used now; the checkout's own goes wherever the checkout goes."""
    uri = paths.get_tracking_uri()
    own = paths.find_own_store()
    return own.name if paths.find_sqlite_file(uri) == own else paths.show_address(uri)


def is_store(name: str) -> bool:
    """Return whether the ledger calls the store that is used now by a name, or did so before the checkout was moved."""
    own = paths.find_own_store()
    if name == name_store():
        return True
    # Earlier versions wrote down the whole address of the own store, be it that of the checkout it was copied from.
    file = paths.find_sqlite_file(name)
    if file is None or file.name != own.name or name_store() != own.name:
        return False
    return not file.exists() or (file.parent / paths.MARKER).exists()


def describe_viewing() -> str:
    """Say how runs are looked at: at the server's address, or by a command."""
    uri = paths.get_tracking_uri()
    if find_store_kind(uri) == "server":
        return paths.show_address(uri)
    if paths.find_sqlite_file(uri) == paths.find_own_store():
        # Where its path has to be quoted, MLflow would make folders of that name.
        named = " --backend-store-uri sqlite:///mlflow.db" if "+" in uri.partition(":")[0] else ""
        return f"mlflow ui{named}   (in the checkout's root, then open the address it prints)"
    return 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"   (then open the address it prints)'


def check_store(uri: str) -> None:
    """Refuse a tracking address that cannot be used, before anything starts.

    Raises
    ------
    TrackingError
        Nobody answers there, what speaks to such a database is not installed, or the database lets nobody in.
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


def check_embedded_experiment(name: str) -> bool:
    """Refuse an experiment that was deleted in an embedded store; return whether the store is one.

    Raises
    ------
    TrackingError
        It was deleted, or the store is no database of MLflow.
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
    """Say what to do about an experiment that was deleted in MLflow."""
    return (
        f"the experiment {name!r} was deleted in MLflow, so nothing can be recorded in it: restore it with "
        f"`mlflow experiments restore --experiment-id {experiment_id}`; nothing was run"
    )


def check_server(address: str) -> None:
    """Refuse a tracking server that is not there."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=SERVER_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:  # somebody is there; whether it lets us in is for MLflow to find out
            return
        problem = f"it answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        problem = str(getattr(error, "reason", error))
    raise TrackingError(
        f"{address}: no tracking server answers there ({problem}): start it, or unset MLFLOW_TRACKING_URI "
        "to record in mlflow.db; nothing was run"
    )


def check_driver(uri: str) -> None:
    """Refuse a database if what speaks to it is not installed."""
    scheme = urlsplit(uri).scheme
    package = DRIVER_PACKAGES.get(scheme.partition("+")[2] or DRIVERS[scheme])
    if package is not None and importlib.util.find_spec(package) is None:
        remedy = "uv pip install 'labkit[postgresql]'" if package == "psycopg" else f"install {package}"
        raise TrackingError(
            f"{paths.show_address(uri)}: the package {package}, which speaks to this database, is not installed: "
            f"{remedy}; nothing was run"
        )


def prepare_database(path: Path, head: str, *, build: Build, upgrade: Build) -> None:
    """Have a whole database of this version in place; made or brought up to date by one process, once.

    Parameters
    ----------
    head
        The version that MLflow wants.

    Raises
    ------
    TrackingError
        It is neither a database of MLflow nor empty, or cannot be brought up to date.
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
    """Return whether a database is there and of a version."""
    return read_version(path) == head


def read_version(path: Path) -> str | None:
    """Return the version of a database, None if there is none yet.

    Raises
    ------
    TrackingError
        It is something else, or half made.
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
    """Say that a file is no database of MLflow, and what to do."""
    return f"{path}: no whole MLflow database ({problem}): move it away, and a new one is made in its place"


def create_database(path: Path, build: Build) -> None:
    """Make a database beside its place and put it there."""
    with atomic_write(path) as beside:
        build(beside)
        use_log(beside)


def upgrade_copy(path: Path, found: str, upgrade: Build) -> None:
    """Keep a copy of an older database, bring another copy up to date, and put that in place."""
    kept = path.with_name(f"{path.name}.before-upgrade-of-{found}")
    try:
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            # What the log beside it holds goes into the file: a log left there would be taken for the new one's.
            connection.execute("pragma journal_mode=delete").fetchall()
            with atomic_write(kept) as beside:
                copy(connection, beside)
            with atomic_write(path) as beside:
                copy(connection, beside)
                upgrade(beside)
                use_log(beside)
    except sqlite3.Error as error:
        raise TrackingError(
            f"{path}: cannot be brought up to date ({error}): end what uses it, then try again"
        ) from error
    logging.getLogger("labkit").warning("%s was brought up to date; the old one is kept as %s", path.name, kept.name)


def copy(connection: sqlite3.Connection, path: Path) -> None:
    """Copy an open database to an empty file."""
    with closing(sqlite3.connect(path)) as target:
        connection.backup(target)


def use_log(path: Path) -> None:
    """Let readers and a writer work at the same time from now on (write-ahead log), where the disk allows it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=wal").fetchall()
