"""What MLflow is told of a run, from outside the kernel.

Sole owner of mlflow. The runner opens a run before the kernel starts and closes it with its true status after the
kernel has gone. Read next: `labkit.run.stage`, which decides what is recorded.
"""

import importlib.metadata
import json
import logging
import platform
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from labkit import paths
from labkit.errors import TrackingError
from labkit.files import compute_digest
from labkit.params import Params

LONGEST_VALUE = 6000
MOST_PER_CALL = 100
DIGEST_TAG = "labkit.release_sha256"


@dataclass
class Record:
    """One open MLflow run and what it will be closed with."""

    run_id: str
    status: str = "FAILED"
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@cache
def get_client() -> MlflowClient:
    """Return the client of the store, creating the embedded store on first use.

    Raises
    ------
    TrackingError
        The store cannot be opened.
    """
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
    uri = paths.get_tracking_uri()
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise TrackingError(f"{uri}: {error.message}: check MLFLOW_TRACKING_URI") from error
    return client


def find_experiment(name: str) -> str:
    """Return the id of an MLflow experiment, made on first use."""
    client = get_client()
    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    folder = paths.find_root() / "mlruns" if paths.get_tracking_uri().startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=(folder / name).as_uri() if folder else None))


@contextmanager
def open_run(params: Params, name: str, *, parent_id: str | None, tags: Mapping[str, str]) -> Iterator[Record]:
    """Open a run for the time of the block and close it with the record's status.

    The status is FAILED unless the block sets another one; an exception closes the run as FAILED, Ctrl-C as KILLED,
    with the error's first line as tag `labkit.reason`.
    """
    client = get_client()
    links = {"mlflow.parentRunId": parent_id} if parent_id else {}
    run = client.create_run(
        find_experiment(params.experiment),
        run_name=name,
        tags={**make_tags(), **links, "labkit.experiment": params.experiment, **tags},
    )
    record = Record(run.info.run_id)
    try:
        yield record
    except BaseException as error:
        record.status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        record.tags.setdefault("labkit.reason", (str(error) or type(error).__name__).splitlines()[0])
        raise
    finally:
        log_values(record.run_id, metrics=record.metrics, tags=record.tags)
        client.set_terminated(record.run_id, record.status)


def log_values(
    run_id: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log values of any number; texts over 6,000 characters are cut in MLflow and so say that they are."""
    client, now = get_client(), int(time.time() * 1000)
    entries: list[tuple[str, Any]] = [("params", Param(key, shorten(value))) for key, value in (params or {}).items()]
    entries += [("metrics", Metric(key, value, now, 0)) for key, value in (metrics or {}).items()]
    entries += [("tags", RunTag(key, shorten(value))) for key, value in (tags or {}).items()]
    for start in range(0, len(entries), MOST_PER_CALL):
        batch: dict[str, list[Any]] = {"params": [], "metrics": [], "tags": []}
        for kind, entity in entries[start : start + MOST_PER_CALL]:
            batch[kind].append(entity)
        client.log_batch(run_id, params=batch["params"], metrics=batch["metrics"], tags=batch["tags"])


def shorten(value: Any) -> str:
    """Return a value as text that MLflow keeps whole."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 40] + " … (whole in the run's artifacts)"


def make_run(params: Params, name: str) -> str:
    """Make a finished run of its own and return its id."""
    with open_run(params, name, parent_id=None, tags={"labkit.stage": name}) as record:
        record.status = "FINISHED"
    return record.run_id


def log_child(params: Params, parent_id: str, content: Mapping[str, Any]) -> None:
    """Record a finished run below another, such as a candidate below training."""
    with open_run(params, content["name"], parent_id=parent_id, tags={"labkit.kind": "candidate"}) as record:
        log_values(record.run_id, params=content["params"])
        record.metrics.update({key: value for key, value in content["metrics"].items() if value == value})
        record.status = "FAILED" if content["params"].get("error") else "FINISHED"


def log_file(run_id: str, path: Path, folder: str | None = None) -> None:
    """Store a file or a folder among a run's artifacts."""
    client = get_client()
    if path.is_dir():
        client.log_artifacts(run_id, str(path), folder)
    else:
        client.log_artifact(run_id, str(path), folder)


def log_text(run_id: str, text: str, name: str) -> None:
    """Store a text among a run's artifacts."""
    get_client().log_text(run_id, text, name)


def make_tags() -> dict[str, str]:
    """Return what is true of every run now: code, lock, Python, machine."""
    commit, is_dirty = find_commit()
    lock = paths.find_root() / "requirements.lock"
    tags = {
        "labkit.version": importlib.metadata.version("labkit"),
        "labkit.python": platform.python_version(),
        "labkit.platform": platform.platform(),
        "mlflow.source.type": "LOCAL",
    }
    if lock.is_file():
        tags["labkit.lock_sha256"] = compute_digest(lock)
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "labkit.git_dirty": str(is_dirty).lower()}
    return tags


def find_commit() -> tuple[str | None, bool]:
    """Return the checkout's git commit, or None outside of git, and whether tracked files differ from it."""
    command = ["git", "-C", str(paths.find_root())]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        status = [*command, "status", "--porcelain", "--untracked-files=no"]
        changes = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return commit.strip(), bool(changes.strip())


def find_run_of(experiment: str, key: str) -> str | None:
    """Return the latest finished run with the tag `labkit.key`, or None."""
    found = get_client().search_runs(
        [find_experiment(experiment)],
        filter_string=f"tags.`labkit.key` = '{key}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def download_file(run_id: str, name: str, folder: Path) -> Path:
    """Fetch one artifact of a run into a folder and return its place."""
    try:
        return Path(get_client().download_artifacts(run_id, name, str(folder)))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id}: no artifact {name}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True)
class Version:
    """One version of a registered model and the digest of the release it was made from."""

    number: int
    run_id: str
    digest: str


def find_version(name: str, *, alias: str | None = None, digest: str | None = None) -> Version | None:
    """Return the version with an alias or made from a release, or None."""
    client = get_client()
    try:
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        else:
            versions = client.search_model_versions(f"name = '{name}'")
            same = [version for version in versions if version.tags.get(DIGEST_TAG) == digest]
            if not same:
                return None
            found = max(same, key=lambda version: int(version.version))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise TrackingError(f"model {name}: {error.message}") from error
    return Version(int(found.version), str(found.run_id), found.tags.get(DIGEST_TAG, ""))


def find_release_run(experiment: str, digest: str) -> str | None:
    """Return the finished run of the stage that built a release, or None."""
    found = get_client().search_runs(
        [find_experiment(experiment)],
        filter_string=f"tags.`labkit.output.release` = '{digest}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def register_model(name: str, run_id: str, model_dir: Path, *, release_dir: Path, digest: str) -> Version:
    """Store an MLflow model and the release it was made from in a run, and register a new version.

    Parameters
    ----------
    model_dir
        As written by `save_mlflow_model`.
    digest
        SHA-256 of the release folder; kept as a tag and checked before the release is ever opened again.
    """
    client = get_client()
    client.log_artifacts(run_id, str(model_dir), "model")
    client.log_artifacts(run_id, str(release_dir), "release")
    with suppress(MlflowException):
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(name, source, run_id, tags={DIGEST_TAG: digest})
    return Version(int(version.version), run_id, digest)


def save_mlflow_model(
    folder: Path, model: Any, example: Any, *, requirements: list[str], trusted_types: list[str]
) -> None:
    """Write a scikit-learn pipeline as an MLflow model: skops, signature, input example, explicit requirements."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    with warnings.catch_warnings():
        # Integer columns without gaps today may have some tomorrow: the contract says so better than a warning.
        warnings.filterwarnings("ignore", message=".*integer column.*")
        signature = infer_signature(example, model.predict(example))
        mlflow.sklearn.save_model(
            model,
            str(folder),
            signature=signature,
            input_example=example,
            pip_requirements=requirements,
            serialization_format="skops",
            skops_trusted_types=trusted_types,
        )


def set_alias(name: str, alias: str, version: Version) -> None:
    """Point an alias of a registered model at a version."""
    get_client().set_registered_model_alias(name, alias, str(version.number))


def tag_version(name: str, version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version of a registered model."""
    for key, value in tags.items():
        get_client().set_model_version_tag(name, str(version.number), key, shorten(value))
