"""Past runs of an experiment: which one is meant, and what is still stored of it.

`record.json` and the params file are artifacts in MLflow. What stages wrote is in DVC's cache, under the MD5 that
`record.json` holds.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import PLACES, load_json
from labkit.errors import LostStoreError, MissingDataError, ParamsError, TrackingError
from labkit.run import dvc_cache
from labkit.run.records import ledger, ledger_index, registry, tracking
from labkit.run.records.champion_moves import CHAMPION
from labkit.run.records.ledger import Entry
from labkit.run.records.run_history import find_run
from labkit.run.records.run_record import RECORD_NAME
from labkit.run.records.run_search import find_top_run
from labkit.run.records.stage_record import compute_outputs
from labkit.storage.digests import compute_digest

LATEST_RUN, CHAMPION_RUN = "@last", "@champion"


@dataclass(frozen=True)
class PastRun:
    """A run of the pipeline.

    Attributes
    ----------
    name
        Its name, as `labkit runs` shows it.
    role
        `@last`, `@champion (version 3)`, or empty for a run that was named.
    record
        Content of its `record.json`.
    """

    name: str
    role: str
    record: Mapping[str, Any]

    def find_artifact(self, artifact: str) -> Path:
        """Return the file in DVC's cache that holds an artifact of the run, verified.

        Raises
        ------
        MissingDataError
            The run did not write it, or it is no longer in the cache.
        DataError
            It is damaged.
        """
        place = f"data/{self.record['experiment']}/{PLACES[artifact]}"
        for stage, files in self.record.get("data", {}).get("dvc_lock", {}).items():
            out = next((one for one in files["outs"] if f"{place}/".startswith(f"{one['path']}/")), None)
            if out is None:
                continue
            status = self.record["stages"].get(stage, {}).get("status", "not run")
            if status not in ("finished", "cached"):
                raise MissingDataError(f"no {place}: stage {stage} was {status} in this run")
            for name, path in dvc_cache.list_objects(out["md5"], out["path"]):
                if name == place:
                    return path
            raise MissingDataError(f"{place} is no longer in DVC's cache")
        raise MissingDataError(f"no {place}: this run did not write it")

    def load_params_content(self) -> str:
        """Return the content of the params file that the run used.

        Raises
        ------
        MissingDataError
            It is no longer among the artifacts of the run in MLflow, or is not the one that was used.
        LostStoreError
            The store does not respond.
        """
        described = self.record["params"]
        content = load_run_artifact(
            self.record["mlflow_run_id"], str(described["artifact"]), described["sha256"], lead="params file"
        )
        return content.decode()


def load_run_artifact(run_id: str, name: str, digest: str | None, *, lead: str) -> bytes:
    """Return an artifact of a run in MLflow, verified if its digest is known.

    Parameters
    ----------
    lead
        What the message of an error begins with.

    Raises
    ------
    MissingDataError
        It is no longer there, or is not the one that was recorded.
    LostStoreError
        The store does not respond.
    """
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        try:
            path = tracking.download_file(run_id, name, Path(scratch))
        except LostStoreError:
            raise
        except TrackingError as error:
            raise MissingDataError(f"{lead}: {error}") from error
        if digest is not None and compute_digest(path) != digest:
            raise MissingDataError(f"{lead}: {name} in MLflow is not the one that was recorded: restore it from a copy")
        return path.read_bytes()


class CurrentRun(PastRun):
    """The run that this process is in: what its stages wrote is in its place, and not yet in DVC's cache."""

    def find_artifact(self, artifact: str) -> Path:
        """Return the file that holds an artifact."""
        path = paths.find_data_dir(self.record["experiment"]) / PLACES[artifact]
        if not path.is_file():
            raise MissingDataError(f"no {paths.show_path(path)}: this run did not write it")
        return path

    def load_params_content(self) -> str:
        """Return the content of the params file."""
        return paths.find_params_path(self.record["experiment"]).read_text(encoding="utf-8")


def find_current_run(experiment: str) -> CurrentRun | None:
    """Return the run of the pipeline that this process is in; None without one, or if no stage was stale in it."""
    entry = ledger_index.find_current(experiment)
    if entry is None or entry.stage or is_sample(entry):
        return None
    path = ledger.find_run_folder(entry.run) / RECORD_NAME
    if not path.is_file():
        return None
    outputs = compute_outputs(paths.find_data_dir(experiment), [PLACES["raw"]])
    written = {f"data/{experiment}/{name}": digest for name, digest in outputs.items()}
    return CurrentRun(entry.run, "", {**load_json(path), "stages": {"source": {"outputs": written}}})


def find_past_run(experiment: str, word: str) -> PastRun:
    """Return a run of an experiment.

    Parameters
    ----------
    experiment
        Name of the experiment.
    word
        `@last` for its latest finished run, `@champion` for the run that made its champion, or any name that `labkit
        why` accepts.

    Raises
    ------
    ParamsError
        The experiment has no such run, or nothing was recorded of it.
    TrackingError
        Its record is no longer in MLflow.
    """
    if word == CHAMPION_RUN:
        return find_champion_run(experiment)
    if word == LATEST_RUN:
        done = ledger_index.find_latest_entry(experiment, is_recorded_whole)
        if done is None:
            raise ParamsError(f"{experiment}: no finished run in this checkout yet: labkit run {experiment}")
        return PastRun(done.run, LATEST_RUN, load_run_record(done))
    found = find_run(word, experiment)
    if found.is_apart:
        kind = "recorded by hand in a notebook" if found.is_interactive else "a sweep"
        raise ParamsError(f"{found.run}: {kind}: only runs of the pipeline can be compared")
    entry = (ledger_index.find_entry(found.parent) if found.parent else None) or found
    if is_sample(entry):
        raise ParamsError(f"run {entry.run} was a sample, whose results are not stored: labkit runs {experiment}")
    return PastRun(entry.run, "", load_run_record(entry))


def is_recorded_whole(entry: Entry) -> bool:
    """Return whether an entry is a finished run of the pipeline in which at least one stage ran."""
    is_whole = entry.parent is None and entry.stage is None and not is_sample(entry)
    return is_whole and entry.outcome == "finished" and entry.record is not None


def is_sample(entry: Entry) -> bool:
    """Return whether a run was one on a sample of the rows."""
    return "sample_rows" in entry.facts.get("asked", {}) or "sample_rows" in entry.facts


def find_champion_run(experiment: str) -> PastRun:
    """Return the run that made the champion, in this checkout or elsewhere."""
    version = registry.find_version(experiment, alias=CHAMPION)
    if version is None:
        raise ParamsError(
            f"{experiment}: nothing is published yet, so there is no {CHAMPION_RUN}: name a run that "
            f"`labkit runs {experiment}` lists"
        )
    record = download_record(find_top_run(version.run_id))
    return PastRun(str(record["run"]), f"{CHAMPION_RUN} (version {version.number})", record)


def load_run_record(entry: Entry) -> Mapping[str, Any]:
    """Return the content of a run's `record.json`, from the checkout or else from MLflow."""
    path = ledger.find_run_folder(entry.run) / RECORD_NAME
    if path.is_file():
        return dict(load_json(path))
    if entry.tracked is None:
        raise ParamsError(f"run {entry.run}: no stage ran in it, so nothing was recorded: name another run")
    return download_record(entry.tracked)


def download_record(run_id: str) -> Mapping[str, Any]:
    """Return the content of `record.json` among the artifacts of a run in MLflow."""
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        return dict(load_json(tracking.download_file(run_id, RECORD_NAME, Path(scratch))))
