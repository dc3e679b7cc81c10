"""The client of the MLflow store, opened once; its experiments, and the errors raised when the store fails.

Uses mlflow together with `labkit.run.records.tracking`, which records, and `labkit.run.records.run_search`.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path

from alembic.config import Config
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database

from labkit import paths
from labkit.errors import LabkitError, LostStoreError, TrackingError
from labkit.run.records import artifact_locations, mlflow_store, postgresql
from labkit.secrets.redaction import mask

LONGEST_PROBLEM = 200
NOTE_TAG = "mlflow.note.content"
"""Tag that MLflow shows as the description of an experiment or a run."""
QUESTION_TAG = "labkit.question"


@cache
def get_client() -> MlflowClient:
    """Return the client of the store, creating the embedded store on first use.

    Raises
    ------
    TrackingError
        The store cannot be opened.
    """
    # Errors are reported once, by labkit.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # MLflow prints the address of each run that ends.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    database._get_alembic_config = make_migration_config
    uri = paths.get_tracking_uri()
    if file := paths.find_sqlite_file(uri):
        prepare_embedded_store(file)
    is_postgresql = mlflow_store.find_store_kind(uri) == "postgresql"
    with postgresql.hold_database(uri) if is_postgresql else nullcontext():
        return open_client(uri)


def open_client(uri: str) -> MlflowClient:
    """Return a client after a first successful request."""
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # of MLflow, of the driver, or of a library between them
        address = paths.show_address(uri)
        if "out-of-date database schema" in str(error):
            raise TrackingError(
                f"{address}: its tables were made by another version of MLflow: take a backup, then "
                '`mlflow db upgrade "$MLFLOW_TRACKING_URI"`'
            ) from error
        raise TrackingError(f"{address}: {describe_problem(error)}: check MLFLOW_TRACKING_URI") from error
    return client


def make_migration_config(db_url: str, alembic_dir: str | None = None) -> Config:
    """Return MLflow's configuration of its migrations, with any path of its package.

    MLflow itself escapes `%`, which starts a reference to another value, only in the address and not in the folder.
    """
    folder = Path(alembic_dir or Path(database._get_package_dir(), "store", "db_migrations"))
    config = Config(folder / "alembic.ini")
    for name, value in (("script_location", str(folder)), ("sqlalchemy.url", db_url)):
        config.set_main_option(name, value.replace("%", "%%"))
    return config


def prepare_embedded_store(file: Path) -> None:
    """Create or upgrade the embedded database and correct its artifact paths."""
    head = database._get_latest_schema_revision()
    mlflow_store.prepare_database(file, head, build=create_tables, upgrade=upgrade_tables)
    if file == paths.find_own_store():
        artifact_locations.correct_locations(file)


def create_tables(path: Path) -> None:
    """Create MLflow's tables in an empty file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = SqlAlchemyStore(paths.make_sqlite_uri(path), artifact_locations.make_root(path))
    made.engine.dispose()


def upgrade_tables(path: Path) -> None:
    """Upgrade the tables in a file, as `mlflow db upgrade` does."""
    engine = database.create_sqlalchemy_engine(paths.make_sqlite_uri(path))
    try:
        database._upgrade_db(engine)
    except Exception as error:  # of MLflow, of its migrations, of the database
        raise TrackingError(f"mlflow db upgrade: {next(iter(str(error).splitlines()), error)}") from error
    finally:
        engine.dispose()


@contextmanager
def reach() -> Iterator[None]:
    """Raise a `LostStoreError` if the store fails during the block; later requests are not retried.

    Raises
    ------
    LostStoreError
        The store failed.
    """
    try:
        yield
    except Exception as error:  # of MLflow, the network, a driver or an artifact store
        uri = paths.get_tracking_uri()
        is_refused = isinstance(error, TrackingError) and mlflow_store.find_store_kind(uri) != "sqlite"
        if isinstance(error, LostStoreError) or (isinstance(error, LabkitError) and not is_refused):
            raise
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        raise LostStoreError(
            f"{paths.show_address(uri)}: the tracking store or its artifact store failed: "
            f"{describe_problem(error.__cause__ or error)}\n"
            "The ledger holds how a run ended. When the store is available, run again: finished stages are kept."
        ) from error


def describe_problem(error: BaseException) -> str:
    """Return the first line of an error, without a password."""
    message = mask(str(getattr(error, "message", error)), {"MLFLOW_TRACKING_URI": paths.get_tracking_uri()})
    return next(iter(message.splitlines()), type(error).__name__)[:LONGEST_PROBLEM]


def find_artifact_root() -> str | None:
    """Return the artifact location of new experiments; None leaves it to the tracking server."""
    uri = paths.get_tracking_uri()
    if file := paths.find_sqlite_file(uri):
        return artifact_locations.make_root(file)
    if mlflow_store.find_store_kind(uri) in mlflow_store.DRIVERS:
        return paths.get_artifact_root() or artifact_locations.make_root(paths.find_own_store())
    return None


def find_experiment(name: str) -> str:
    """Return the id of an MLflow experiment, created on first use."""
    return find_experiment_in(name, paths.get_tracking_uri())


@cache
def find_experiment_in(name: str, uri: str) -> str:
    """Return the id of an experiment in the store at an address, which is requested once."""
    client = get_client()
    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    root = find_artifact_root()
    try:
        return str(client.create_experiment(name, artifact_location=f"{root}/{name}" if root else None))
    except MlflowException:
        # Another process has just created it.
        known = client.get_experiment_by_name(name)
        if known is None:
            raise
        return str(known.experiment_id)


def describe_experiment(experiment_id: str, question: str) -> None:
    """Set the description of an experiment, unless somebody has written another one."""
    client = get_client()
    tags = client.get_experiment(experiment_id).tags
    if tags.get(NOTE_TAG) in (None, tags.get(QUESTION_TAG)) and tags.get(NOTE_TAG) != question:
        # Of two processes that insert the same tag at once, one fails.
        with suppress(MlflowException):
            for tag in (QUESTION_TAG, NOTE_TAG):
                client.set_experiment_tag(experiment_id, tag, question)


def check_experiment(name: str) -> None:
    """Raise an error for an experiment that was deleted, or whose artifacts cannot be stored at its location.

    Raises
    ------
    TrackingError
        The experiment cannot be used.
    """
    try:
        known = get_client().get_experiment_by_name(name)
    except MlflowException as error:
        address = paths.show_address(paths.get_tracking_uri())
        raise TrackingError(f"{address}: {describe_problem(error)}: check MLFLOW_TRACKING_URI") from error
    if known is not None and known.lifecycle_stage == "deleted":
        raise TrackingError(mlflow_store.explain_deleted(name, known.experiment_id))
    root = find_artifact_root()
    place = str(known.artifact_location) if known is not None else f"{root}/{name}" if root else ""
    if place.startswith("s3:") and importlib.util.find_spec("boto3") is None:
        raise TrackingError(f"{place}: artifacts go to S3, which needs boto3: uv pip install 'labkit[s3]'")
    is_local = place.startswith(("/", "file:"))
    if root and is_local and artifact_locations.make_path(place).parent != artifact_locations.make_path(root):
        raise TrackingError(
            f"the experiment {name!r} keeps its artifacts in {artifact_locations.make_path(place)}, and not below "
            f"{artifact_locations.make_path(root)}: work in the checkout that created it, or set "
            "MLFLOW_DEFAULT_ARTIFACT_ROOT to a place that everyone can reach before its first run; nothing was run"
        )
