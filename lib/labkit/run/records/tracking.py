"""Records runs in MLflow, from outside the kernel.

Uses mlflow together with `labkit.run.records.tracking_client`, which opens the store. The runner opens a run before the
kernel starts and closes it with its real status after the kernel has ended. Read next:
`labkit.run.pipeline.stage_run`, which decides what is recorded.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from labkit import paths
from labkit.errors import LostStoreError, TrackingError
from labkit.params.experiment import Params
from labkit.params.subject import Subject
from labkit.run.records import provenance
from labkit.run.records.ledger import Entry, find_reason, release_space
from labkit.run.records.mlflow_limits import make_fields
from labkit.run.records.run_search import DIGESTS_NAME, RUN_TAG, search_runs
from labkit.run.records.tracking_client import (
    NOTE_TAG,
    describe_experiment,
    describe_problem,
    find_experiment,
    get_client,
    reach,
)
from labkit.storage.digests import list_files

MOST_PER_CALL = 100
LONGEST_DIGEST = 36
"""Maximum number of characters of a dataset's digest in MLflow."""
STATUSES = {"finished": "FINISHED", "interrupted": "KILLED"}
"""MLflow's status for each outcome in the ledger; all others are FAILED."""


@dataclass
class Record:
    """One open MLflow run and the values it will be closed with.

    Attributes
    ----------
    is_leaf
        Whether it cannot have child runs.
    description
        Replaces the description that it was opened with, unless empty.
    """

    run_id: str
    status: str = "FAILED"
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    is_leaf: bool = False
    description: str = ""


def prepare() -> None:
    """Open the embedded store before its first use, which takes a second; a server is contacted only when needed."""
    if paths.find_sqlite_file(paths.get_tracking_uri()):
        get_client()


@contextmanager
def open_run(
    params: Params, name: str, *, parent_id: str | None, tags: Mapping[str, str], entry: Entry | None = None
) -> Iterator[Record]:
    """Open a run during the block and close it with the status of the record.

    The status is FAILED unless the block sets another one; an exception closes the run as FAILED, Ctrl-C as KILLED,
    with the error's first line as tag `labkit.reason`. The duration is
    measured independently of changes to the clock.

    Parameters
    ----------
    entry
        Its entry in the ledger, None for a run that has none of its own.

    Raises
    ------
    LostStoreError
        The store failed; an error of the block takes precedence.
    """
    links = {"mlflow.parentRunId": parent_id} if parent_id else {}
    named = {RUN_TAG: entry.run} if entry else {}
    question = Subject.from_params(params).question
    with reach():
        experiment_id = find_experiment(params.experiment)
        if parent_id is None:
            named[NOTE_TAG] = question
            describe_experiment(experiment_id, question)
        run = get_client().create_run(
            experiment_id,
            run_name=name,
            tags={**make_tags(), **links, **named, "labkit.experiment": params.experiment, **tags},
        )
    record = Record(run.info.run_id)
    opened, started = run.info.start_time, time.monotonic()
    if entry:
        entry.open_tracked(record.run_id)
    try:
        yield record
    except BaseException as error:
        record.status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        record.tags.setdefault("labkit.reason", find_reason(error))
        release_space()
        with suppress(LostStoreError):
            close_run(record, opened + round(1000 * (time.monotonic() - started)), entry)
        raise
    close_run(record, opened + round(1000 * (time.monotonic() - started)), entry)


@reach()
def close_run(record: Record, ended: int, entry: Entry | None) -> None:
    """Log the values of a run and close it; if it failed, its open child runs are closed too."""
    described = {NOTE_TAG: record.description} if record.description else {}
    log_values(record.run_id, params=record.params, metrics=record.metrics, tags={**record.tags, **described})
    if record.status != "FINISHED" and not record.is_leaf:
        for below in find_open_below(record.run_id):
            close_one(below, record.status, record.tags.get("labkit.reason", ""))
    get_client().set_terminated(record.run_id, record.status, end_time=ended)
    if entry:
        entry.is_settled = True


def find_open_below(run_id: str) -> list[str]:
    """Return the open descendants of a run, the deepest first."""
    found = search_runs(f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'")
    below = [str(run.info.run_id) for run in found]
    return [one for child in below for one in (*find_open_below(child), child)]


def close_one(run_id: str, status: str, reason: str, *, ended: int | None = None) -> None:
    """Close a run of another process; `ended` keeps the end time of one that was closed before."""
    log_values(run_id, tags={"labkit.reason": reason} if reason else {})
    get_client().set_terminated(run_id, status, end_time=ended)


@reach()
def close_left(entry: Entry) -> None:
    """Close a run and its descendants in MLflow with the outcome in the ledger.

    A process that was killed just before it wrote the outcome into the ledger may have closed the run as finished.
    """
    status = STATUSES.get(entry.outcome or "", "FAILED")
    for run in search_runs(f"tags.`{RUN_TAG}` = '{entry.run}'"):
        for below in find_open_below(run.info.run_id):
            close_one(below, status, entry.reason)
        if run.info.status != status:
            close_one(run.info.run_id, status, entry.reason, ended=run.info.end_time)


@reach()
def log_values(
    run_id: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log any number of values without altering one silently: see `labkit.run.records.mlflow_limits`."""
    client, now = get_client(), int(time.time() * 1000)
    made = make_fields(params or {}, metrics or {}, tags or {})
    for name, content in made.files.items():
        client.log_text(run_id, content, name)
    entries: list[tuple[str, Any]] = [("params", Param(key, value)) for key, value in made.params.items()]
    entries += [("metrics", Metric(key, value, now, 0)) for key, value in made.metrics.items()]
    entries += [("tags", RunTag(key, value)) for key, value in made.tags.items()]
    for start in range(0, len(entries), MOST_PER_CALL):
        batch: dict[str, list[Any]] = {"params": [], "metrics": [], "tags": []}
        for kind, entity in entries[start : start + MOST_PER_CALL]:
            batch[kind].append(entity)
        client.log_batch(run_id, params=batch["params"], metrics=batch["metrics"], tags=batch["tags"])


def make_run(params: Params, name: str) -> str:
    """Create a finished run of its own and return its id."""
    with open_run(params, name, parent_id=None, tags={"labkit.stage": name}) as record:
        record.status = "FINISHED"
    return record.run_id


def log_child(params: Params, parent_id: str, content: Mapping[str, Any], *, source: str) -> None:
    """Record a finished run below another, such as a candidate below training, with as few requests as possible.

    Parameters
    ----------
    content
        Its `name`, `params` and `metrics`.
    source
        The file that it comes from.
    """
    tags = {"labkit.kind": "candidate", "mlflow.source.name": source}
    with open_run(params, content["name"], parent_id=parent_id, tags=tags) as record:
        record.is_leaf = True
        record.params.update(content["params"])
        record.metrics.update(content["metrics"])
        record.status = "FAILED" if content["params"].get("error") else "FINISHED"


@reach()
def log_file(run_id: str, path: Path, folder: str | None = None) -> None:
    """Store a file or a folder among a run's artifacts."""
    client = get_client()
    if path.is_dir():
        client.log_artifacts(run_id, str(path), folder)
    else:
        client.log_artifact(run_id, str(path), folder)


@reach()
def log_text(run_id: str, content: str, name: str) -> None:
    """Store a string as a file among a run's artifacts."""
    get_client().log_text(run_id, content, name)


@reach()
def log_dataset(run_id: str, name: str, *, path: str, digest: str) -> None:
    """Record a folder of tables as the data that a run used; nothing is uploaded.

    Parameters
    ----------
    path
        The folder, relative to the root of the checkout.
    digest
        Its SHA-256, which MLflow shows shortened.
    """
    size = sum(file.stat().st_size for file in list_files(paths.find_root() / path))
    made = Dataset(
        name=name,
        digest=digest[:LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": path}),
        profile=json.dumps({"bytes": size, "sha256": digest}),
    )
    tags = [InputTag("mlflow.data.context", "raw")]
    get_client().log_inputs(run_id, [DatasetInput(made, tags)])


def make_tags() -> dict[str, str]:
    """Return the tags common to all runs: user, code, lock file, Python, machine."""
    found = provenance.collect()
    names = ("python", "platform", "host")
    tags = {f"labkit.{name}": found[name] for name in names if name in found}
    tags |= {"labkit.version": found["labkit"], "mlflow.user": found["user"]}
    tags |= {"mlflow.source.type": "LOCAL", "mlflow.source.name": paths.MARKER}
    if "commit" in found:
        tags |= {"mlflow.source.git.commit": found["commit"], "labkit.git_dirty": str(found["is_dirty"]).lower()}
    return tags


def download_file(run_id: str, name: str, folder: Path) -> Path:
    """Download one artifact of a run into a folder and return its path.

    Raises
    ------
    TrackingError
        The run has no such artifact.
    LostStoreError
        The store or its artifact store failed.
    """
    with reach():
        client = get_client()
    try:
        return Path(client.download_artifacts(run_id, name, str(folder)))
    except Exception as error:  # of MLflow, or of the library that accesses its artifact store
        with reach():
            client.list_artifacts(run_id)  # raises if the store itself has failed
            place = client.get_run(run_id).info.artifact_uri
        problem = describe_problem(error).rstrip(".")
        raise TrackingError(
            f"run {run_id}: no artifact {name} in {place} ({problem}): restore it from a copy"
        ) from error


def log_digests(run_id: str, digests: Mapping[str, Any]) -> None:
    """Store the digests of what a run was made from as one artifact.

    Parameters
    ----------
    digests
        `inputs`, with a digest for each path, and others by name.
    """
    log_text(run_id, json.dumps(digests, indent=1, ensure_ascii=False), DIGESTS_NAME)


@reach()
def find_release_run(experiment: str, digest: str) -> str | None:
    """Return the finished run of the stage that built a release, or None."""
    found = get_client().search_runs(
        [find_experiment(experiment)],
        filter_string=f"tags.`labkit.output.release` = '{digest}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None
