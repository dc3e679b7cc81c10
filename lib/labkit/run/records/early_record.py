"""The record of a run that has no `record.json`, made of the tags that earlier versions of labkit set in MLflow."""

from typing import Any

from labkit.run.records.run_search import PARENT_TAG, RUN_TAG, search_runs
from labkit.run.records.tracking_client import get_client, reach

EARLY = 0
"""Version of a record that was not written by the run itself."""
OUTPUT_TAG = "labkit.output."
OUTCOMES = {"FINISHED": "finished", "KILLED": "interrupted", "RUNNING": "running"}


@reach()
def load_early_record(run_id: str) -> dict[str, Any]:
    """Return what the tags of a run in MLflow and of the stages below it hold, with the keys of `record.json`.

    Stages that the run did not have to run are not known.
    """
    client = get_client()
    top = client.get_run(run_id)
    tags = top.data.tags
    experiment = str(client.get_experiment(top.info.experiment_id).name)
    below = sorted(search_runs(f"tags.`{PARENT_TAG}` = '{run_id}'"), key=lambda run: run.info.start_time)
    stages = {run.data.tags["labkit.stage"]: run for run in [top, *below] if "labkit.stage" in run.data.tags}
    return {
        "version": EARLY,
        "run": tags.get(RUN_TAG, run_id),
        "experiment": experiment,
        "mlflow_run_id": run_id,
        "outcome": OUTCOMES.get(top.info.status, "failed"),
        "code": {
            "commit": tags.get("mlflow.source.git.commit"),
            "is_dirty": tags.get("labkit.git_dirty") == "true",
        },
        "params": {"artifact": f"{experiment}.yaml", "sha256": None},
        "environment": {
            "labkit": tags.get("labkit.version"),
            "python": tags.get("labkit.python"),
            "platform": tags.get("labkit.platform"),
            "lock": {"sha256": tags.get("labkit.lock_sha256")},
        },
        "machine": {"user": tags.get("mlflow.user"), "host": tags.get("labkit.host")},
        "stages": {stage: describe_tracked(run, experiment) for stage, run in stages.items()},
    }


def describe_tracked(run: Any, experiment: str) -> dict[str, Any]:
    """Return what MLflow holds of the run of a stage."""
    outputs = {
        f"data/{experiment}/{key.removeprefix(OUTPUT_TAG)}": value
        for key, value in run.data.tags.items()
        if key.startswith(OUTPUT_TAG)
    }
    return {
        "status": OUTCOMES.get(run.info.status, "failed"),
        "mlflow_run_id": run.info.run_id,
        "outputs": outputs,
    }
