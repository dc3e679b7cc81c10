"""Searches for runs in MLflow, over all pages of results.

Uses mlflow together with `labkit.run.records.tracking` and `labkit.run.records.tracking_client`.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from labkit.run.records.tracking_client import find_experiment, get_client, reach

RUN_TAG = "labkit.run"
PARENT_TAG = "mlflow.parentRunId"
INPUT_TAG = "labkit.input."
"""Begin of the tags in which earlier versions kept the digests of inputs."""
DIGESTS_NAME = "digests.json"
"""Artifact of a stage's run: digests of its notebook, code, lock and inputs."""


def search_runs(condition: str) -> list[Any]:
    """Return the runs of all experiments that meet a condition."""
    client = get_client()
    found = list_pages(lambda token: client.search_experiments(view_type=ViewType.ALL, page_token=token))
    experiments = [one.experiment_id for one in found]
    return list_pages(lambda token: client.search_runs(experiments, filter_string=condition, page_token=token))


def list_pages(search: Callable[[str | None], Any]) -> list[Any]:
    """Return the results of a search from all pages; `search` is called with the token of each page."""
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found += page
    return found


@reach()
def find_run_of(experiment: str, key: str) -> str | None:
    """Return the latest finished run with the tag `labkit.key`, or None."""
    found = get_client().search_runs(
        [find_experiment(experiment)],
        filter_string=f"tags.`labkit.key` = '{key}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


@reach()
def find_top_run(run_id: str) -> str:
    """Return the run of the pipeline that a run belongs to, or the run itself if it belongs to none."""
    tags = get_client().get_run(run_id).data.tags
    return find_top_run(tags[PARENT_TAG]) if PARENT_TAG in tags else run_id


@reach()
def find_producing_run(experiment: str, stage: str, outputs: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the latest finished run of a stage that wrote exactly these outputs, or None."""
    if not outputs:
        return None
    wrote = " and ".join(f"tags.`labkit.output.{name}` = '{digest}'" for name, digest in outputs.items())
    found = get_client().search_runs(
        [find_experiment(experiment)],
        filter_string=f"tags.`labkit.stage` = '{stage}' and attributes.status = 'FINISHED' and {wrote}",
        order_by=["attributes.end_time DESC"],
        max_results=1,
    )
    if not found:
        return None
    tags = found[0].data.tags
    made = {"run": tags.get(RUN_TAG), "mlflow_run_id": found[0].info.run_id, "user": tags.get("mlflow.user")}
    return {**made, "inputs": load_inputs(found[0])}


def load_inputs(run: Any) -> dict[str, str]:
    """Return the digests of what a stage's run read; none if its artifact is gone."""
    tags = run.data.tags
    tagged = {key.removeprefix(INPUT_TAG): value for key, value in tags.items() if key.startswith(INPUT_TAG)}
    if tagged:
        return tagged
    with tempfile.TemporaryDirectory() as folder, suppress(MlflowException, OSError):
        path = Path(get_client().download_artifacts(run.info.run_id, DIGESTS_NAME, folder))
        inputs: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["inputs"]
        return inputs
    return {}


@reach()
def find_holdout_metrics(experiment: str) -> dict[str, dict[str, float]]:
    """Return the metrics on the holdout of each run of the pipeline that has some, by the run's name in the ledger."""
    found = get_client().search_runs(
        [find_experiment(experiment)], filter_string="tags.`labkit.kind` = 'pipeline'", order_by=["start_time DESC"]
    )
    measured = {
        run.data.tags.get(RUN_TAG, ""): {
            name.removeprefix("holdout_"): value
            for name, value in run.data.metrics.items()
            if name.startswith("holdout_") and name != "holdout_rows"
        }
        for run in found
    }
    return {name: metrics for name, metrics in measured.items() if metrics}
