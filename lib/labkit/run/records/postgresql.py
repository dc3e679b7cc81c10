"""Prepares an MLflow store in PostgreSQL: checks the connection, and lets one process at a time create tables.

The only module that imports psycopg, of the extra `labkit[postgresql]`. Does not import MLflow: see
`labkit.run.records.tracking`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labkit import paths
from labkit.errors import TrackingError
from labkit.secrets.redaction import mask

if TYPE_CHECKING:
    from psycopg import Connection

CONNECT_TIMEOUT_SECONDS = 5
ADVISORY_LOCK_ID = 7_212_202_611
"""Number of the advisory lock that is held while tables are created; unlikely to be used by other programs."""


def check_database(uri: str) -> None:
    """Raise an error for a database that cannot be reached or whose tables are incomplete.

    Parameters
    ----------
    uri
        Address in the form of SQLAlchemy, `postgresql+psycopg://user:password@host/database`.

    Raises
    ------
    TrackingError
        The database cannot be used; the message contains no password.
    """
    with open_connection(uri) as connection:
        check_tables(connection, uri)


@contextmanager
def hold_database(uri: str) -> Iterator[None]:
    """Hold the lock for creating tables in a database during the block."""
    with open_connection(uri) as connection:
        connection.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK_ID])
        check_tables(connection, uri)
        yield


@contextmanager
def open_connection(uri: str) -> Iterator["Connection"]:
    """Connect to a database, and raise its errors as one line."""
    import psycopg

    address = urlsplit(uri)._replace(scheme="postgresql").geturl()
    try:
        connection = psycopg.connect(address, connect_timeout=CONNECT_TIMEOUT_SECONDS, autocommit=True)
    except (psycopg.Error, ValueError) as error:
        problem = next(iter(mask(str(error), {"MLFLOW_TRACKING_URI": uri}).splitlines()), type(error).__name__)
        raise TrackingError(
            f"{paths.show_address(uri)}: this database cannot be used ({problem}): correct MLFLOW_TRACKING_URI, or "
            "unset it to record in mlflow.db; nothing was run"
        ) from None  # the cause may contain the password
    with connection:
        yield connection


def check_tables(connection: "Connection", uri: str) -> None:
    """Raise an error if MLflow's tables have no version, because the process that created them was killed."""
    names = "experiments", "alembic_version"
    found = [connection.execute("select to_regclass(%s)", [name]).fetchone() for name in names]
    has_tables, has_version = (row is not None and row[0] is not None for row in found)
    if has_version:
        has_version = connection.execute("select 1 from alembic_version").fetchone() is not None
    if has_tables and not has_version:
        raise TrackingError(
            f"{paths.show_address(uri)}: its MLflow tables are incomplete: drop the database and create it again, "
            "empty; nothing was run"
        )
