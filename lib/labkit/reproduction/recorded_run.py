"""The run that a name stands for: a run of the pipeline, or the one that made a version of a model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit import paths
from labkit.errors import LostStoreError, ParamsError, TrackingError, list_briefly, name_nearest
from labkit.names import EXPERIMENT_NAME
from labkit.params.load import list_experiments
from labkit.run.records import ledger, mlflow_store, registry
from labkit.run.records.champion_moves import CHAMPION
from labkit.run.records.early_record import EARLY, load_early_record
from labkit.run.records.run_history import find_run
from labkit.run.records.run_record import PATCH_NAME, RECORD_NAME
from labkit.run.records.run_search import RUN_TAG, find_top_run, search_runs
from labkit.stages.past_run import download_record, find_past_run, load_run_artifact
from labkit.storage.digests import compute_digest

RUN_NAME = re.compile(r"[a-z0-9_]+-\d{8}T\d{6}Z-[0-9a-f]{8}")
MLFLOW_ID = re.compile(r"[0-9a-f]{32}")
USABLE = ("finished", "cached")
"""How stages ended of which there are outputs."""


@dataclass(frozen=True)
class RecordedRun:
    """A finished run of the pipeline.

    Attributes
    ----------
    record
        Content of its `record.json`, or what MLflow's tags hold of an earlier one.
    version
        The version of a model that was named; None if a run was.
    """

    record: Mapping[str, Any]
    version: registry.Version | None = None

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        return str(self.record["run"])

    @property
    def experiment(self) -> str:
        """Its experiment."""
        return str(self.record["experiment"])

    @property
    def commit(self) -> str | None:
        """The commit that its code is based on."""
        return self.record["code"].get("commit")

    @property
    def outputs(self) -> dict[str, dict[str, str]]:
        """The SHA-256 of what each stage left in place, by path relative to the root."""
        stages = self.record.get("stages", {})
        return {
            name: dict(one["outputs"]) for name, one in stages.items() if one["status"] in USABLE and one.get("outputs")
        }

    def load_params(self) -> bytes:
        """Return the content of the params file that it used.

        Raises
        ------
        MissingDataError
            It is neither here nor in MLflow, or not the one that was used.
        """
        described = self.record["params"]
        return self.load_artifact(str(described["artifact"]), described["sha256"])

    def load_patch(self) -> bytes:
        """Return the patch of what was not committed; empty if there is none."""
        patch = self.record["code"].get("patch")
        if not patch:
            return b""
        kept = ledger.find_run_folder(self.name) / PATCH_NAME
        if kept.is_file() and compute_digest(kept) == patch["sha256"]:
            return kept.read_bytes()
        return self.load_artifact(str(patch["artifact"]), patch["sha256"])

    def load_artifact(self, name: str, digest: str | None) -> bytes:
        """Return an artifact of the run in MLflow, verified if its digest is known."""
        return load_run_artifact(self.record["mlflow_run_id"], name, digest, lead=f"{self.name} cannot be rebuilt")

    def list_missing(self) -> list[str]:
        """Return what its record lacks, in words: records of earlier versions hold less."""
        code, data = self.record["code"], self.record.get("data", {})
        found = []
        if self.record["version"] == EARLY:
            found.append(f"no {RECORD_NAME}: what MLflow's tags hold is used, and stages that did not run are unknown")
            found += ["the patch of uncommitted code: that of the commit is used"] if code["is_dirty"] else []
        if "continued" not in code:
            found.append("files that stages build on, such as the contract, as they were: those of the commit are used")
        if "files" not in data:
            found.append("digests of the files of raw tables")
        if code.get("left_out"):
            found.append(f"code that was too large: {list_briefly(code['left_out'], most=3)}")
        if code.get("patch", {}).get("is_masked"):
            found.append("strings in uncommitted code that were redacted as secrets")
        return found


def find_recorded_run(word: str, version: int | None = None) -> RecordedRun:
    """Return the run that a word stands for.

    Parameters
    ----------
    word
        An experiment, with `version` or for its champion; an experiment with an alias, such as `diabetes@champion`; or
        a run of the pipeline as `labkit runs` names it, or its id in MLflow.
    version
        Number of a version of the experiment's model.

    Raises
    ------
    ParamsError
        There is no such run or version, or it did not finish.
    TrackingError
        Its record cannot be read.
    """
    name, _, alias = word.partition("@")
    if version is not None and alias:
        raise ParamsError(f"{word} {version}: name either an alias or a version")
    if version is not None or alias or name in list_experiments():
        if not re.fullmatch(EXPERIMENT_NAME, name):
            raise ParamsError(f"{name!r} is not the name of an experiment: {name_nearest(name, list_experiments())}")
        return find_version_run(name, version, alias or CHAMPION)
    return check_finished_run(RecordedRun(find_named_record(word)))


def find_version_run(name: str, number: int | None, alias: str) -> RecordedRun:
    """Return the run that made a version of a model."""
    mlflow_store.check_store(paths.get_tracking_uri())
    found = None
    if mlflow_store.check_existing_store():
        found = registry.find_version(name, alias=alias) if number is None else registry.get_version(name, number)
    if found is None:
        what = f"version {number}" if number is not None else repr(alias)
        raise ParamsError(f"{name} has no {what}: `labkit models` lists the models, `labkit runs` the runs")
    return check_finished_run(RecordedRun(load_tracked_record(find_top_run(found.run_id)), found))


def find_named_record(word: str) -> Mapping[str, Any]:
    """Return the record of a run that is named, from the ledger of this checkout or else from MLflow."""
    try:
        entry = find_run(word)
    except ParamsError as error:
        run_id = find_tracked_run(word)
        if run_id is None:
            raise ParamsError(f"{error}; nor is it a run or a model in MLflow") from error
        return load_tracked_record(run_id)
    if entry.is_apart:
        what = "work by hand in a notebook" if entry.is_interactive else "a sweep: adopt a point of it, and run that"
        raise ParamsError(f"run {entry.run} is {what}: only runs of the pipeline can be rebuilt and exported")
    if entry.outcome not in (None, "finished"):
        raise ParamsError(describe_unfinished(entry.run, entry.outcome or ""))
    try:
        return find_past_run(entry.experiment, entry.run).record
    except TrackingError:
        if entry.tracked is None:
            raise
        return load_tracked_record(entry.tracked)


def find_tracked_run(word: str) -> str | None:
    """Return the id of a run of the pipeline in MLflow by its name or id, None if there is none."""
    if not (RUN_NAME.fullmatch(word) or MLFLOW_ID.fullmatch(word)) or not mlflow_store.check_existing_store():
        return None
    condition = f"attributes.run_id = '{word}'" if MLFLOW_ID.fullmatch(word) else f"tags.`{RUN_TAG}` = '{word}'"
    found = search_runs(condition)
    return find_top_run(str(found[0].info.run_id)) if found else None


def load_tracked_record(run_id: str) -> Mapping[str, Any]:
    """Return the record of a run in MLflow, made of its tags if it has no `record.json`."""
    try:
        return download_record(run_id)
    except LostStoreError:
        raise
    except TrackingError:
        return load_early_record(run_id)


def check_finished_run(run: RecordedRun) -> RecordedRun:
    """Return a run that finished, with outputs and a commit.

    Raises
    ------
    ParamsError
        It did not finish, or too little is recorded of it.
    """
    if run.record["outcome"] != "finished":
        raise ParamsError(describe_unfinished(run.name, str(run.record["outcome"])))
    if not run.outputs:
        raise ParamsError(f"run {run.name}: no outputs are recorded of it, so nothing could be compared: name another")
    if run.commit is None:
        raise ParamsError(
            f"run {run.name}: no commit is recorded of it: it was made outside of git, or before the first"
        )
    return run


def describe_unfinished(name: str, outcome: str) -> str:
    """Return a message about a run that did not finish."""
    how = {"running": "has not finished", "": "did not finish"}.get(outcome, f"ended as {outcome}")
    return f"run {name} {how}: only finished runs can be rebuilt and exported: `labkit runs` lists them"
