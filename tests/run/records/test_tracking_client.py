"""The MLflow store as a team uses it: a server that is asked seldom, may be lost, and keeps what people delete."""

import getpass
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from labkit.errors import LostStoreError, TrackingError
from labkit.params.load import load_params
from labkit.run.records import registry, run_search, tracking, tracking_client
from mlflow import MlflowClient

from tests.conftest import call_in_process, call_labkit, make_environment
from tests.own_store import work_in
from tests.run.small import load_ledger, make_small
from tests.servers import find_free_port, wait_until_up

pytestmark = pytest.mark.xdist_group("server")


@dataclass(frozen=True)
class Server:
    """A tracking server and what it logs of requests."""

    uri: str
    log: Path

    def list_requests(self) -> list[str]:
        """Return the requests so far, each as method and path."""
        lines = [line for line in self.log.read_text().splitlines() if " HTTP/1.1" in line and "/health" not in line]
        return [line.split('"')[1].removesuffix(" HTTP/1.1").partition("?")[0] for line in lines]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), find_free_port()
    (folder / "runs.db").write_bytes(store.read_bytes())
    uri, options = f"http://127.0.0.1:{port}", ["--backend-store-uri", f"sqlite:///{folder / 'runs.db'}"]
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--port", str(port), "--workers", "1", *options]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "artifacts")],
            stdout=log,
            stderr=log,
            env={**os.environ, **settings},
            start_new_session=True,
        )
        try:
            wait_until_up(f"{uri}/health", process)
            yield Server(uri, folder / "log")
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


@pytest.fixture
def root(tmp_path: Path, store: Path) -> Iterator[Path]:
    """Return a checkout with an empty store, in which this process works."""
    with work_in(make_small(tmp_path / "checkout", "eda", store=store)) as root:
        yield root


@pytest.mark.slow
def test_candidate_takes_three_requests(root: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    content = {"name": "linear", "params": {"alpha": 1, "error": "broken"}, "metrics": {"mae": 0.5}}
    with tracking.open_run(load_params("small"), "training", parent_id=None, tags={}) as record:
        n_before = len(server.list_requests())
        for _ in range(3):
            tracking.log_child(load_params("small"), record.run_id, content, source="notebooks/04_training.ipynb")
        time.sleep(0.5)  # the log is written by another process
        asked = server.list_requests()[n_before:]
        record.status = "FINISHED"
    assert (
        asked
        == [
            "POST /api/2.0/mlflow/runs/create",
            "POST /api/2.0/mlflow/runs/log-batch",
            "POST /api/2.0/mlflow/runs/update",
        ]
        * 3
    )


@pytest.mark.slow
def test_run_records_user_and_place_and_prints_labkit_lines_only(root: Path, server: Server) -> None:
    done = call_labkit(root, "run", "small", "--cold", MLFLOW_TRACKING_URI=server.uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tracking:  {server.uri}\n" in done.stdout
    assert done.stderr == ""
    assert "View run" not in done.stdout
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id], filter_string="attributes.run_name != 'training'")
    sources = {
        run.data.tags.get("labkit.stage") or run.data.tags["labkit.kind"]: run.data.tags["mlflow.source.name"]
        for run in runs
        if "labkit.kind" in run.data.tags or "labkit.stage" in run.data.tags
    }
    assert sources["pipeline"] == "dvc.yaml"
    assert sources["eda"] == "notebooks/01_eda.ipynb"
    assert "notebooks/01_eda.ipynb" in {
        run.data.tags["mlflow.source.name"] for run in runs if run.info.run_name == "candidate"
    }
    assert {run.data.tags["mlflow.user"] for run in runs} == {getpass.getuser()}


@pytest.mark.slow
def test_version_records_who_registered_and_promoted_it_and_prints_labkit_lines_only(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = root / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}\n")
    with tracking.open_run(load_params("small"), "deploy", parent_id=None, tags={}) as record:
        record.status = "FINISHED"
    card = "# Model card\n" + "x" * 6000
    version = registry.register_model("small", record.run_id, model, release_dir=model, digest="1", description=card)
    registry.set_alias("small", "champion", version)
    made = tracking_client.get_client().get_model_version("small", "1")
    assert made.description.startswith("# Model card\nxxx")
    assert len(made.description) == 5000, "the limit of a database"
    tags = made.tags
    assert tags["labkit.registered_by"] == tags["labkit.champion_by"]
    assert tags["labkit.champion_by"].startswith(f"{getpass.getuser()}@")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("is_server", [False, True], ids=["embedded", "server"])
def test_deleted_experiment_is_refused_before_anything_starts_and_can_be_restored(
    root: Path, server: Server, *, is_server: bool
) -> None:
    variables = {"MLFLOW_TRACKING_URI": server.uri} if is_server else {}
    client = MlflowClient(server.uri if is_server else f"sqlite:///{root / 'mlflow.db'}")
    known = client.get_experiment_by_name("small")
    number = known.experiment_id if known else client.create_experiment("small")
    client.delete_experiment(number)
    for words in (["run", "small", "--cold"], ["run", "small", "--cold", "--sample", "50"], ["stage", "eda", "small"]):
        done = call_in_process(root, *words, **variables)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith(
            "labkit: the experiment 'small' was deleted in MLflow, so nothing can be recorded"
        )
        assert done.stderr.count("\n") == 1
        assert load_ledger(root) == []
    remedy = done.stderr.split("`")[1]
    assert remedy == f"mlflow experiments restore --experiment-id {number}"
    environment = {**make_environment(root), **variables}
    subprocess.run(shlex.split(remedy), cwd=root, env=environment, check=True, capture_output=True)
    done = call_in_process(root, "run", "small", "--cold", **variables)
    assert done.returncode == 0, done.stdout + done.stderr


def call_missing_store(name: str) -> Any:
    """Use the store in one of the ways in which a run does."""
    if name == "open":
        with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}):
            raise AssertionError("nothing was opened")
    if name == "version":
        return registry.find_version("small", alias="champion")
    if name == "search":
        return run_search.find_run_of("small", "1")
    return tracking.download_file("1", "release", Path())


@pytest.mark.parametrize("name", ["open", "version", "search", "download"])
def test_server_that_is_lost_during_a_run_is_no_fault_of_the_user(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"http://127.0.0.1:{find_free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(LostStoreError) as caught:
        call_missing_store(name)
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(f"{uri}: the tracking store or its artifact store failed: ")
    assert "run again: finished stages are kept." in str(caught.value)


def test_missing_artifact_is_distinguished_from_a_lost_store(root: Path, tmp_path: Path) -> None:
    with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}) as record:
        record.status = "FINISHED"
    place = f"{root.as_uri()}/mlruns/small/{record.run_id}/artifacts"
    with pytest.raises(
        TrackingError, match=rf"run {record.run_id}: no artifact release in {place} \(.*\): restore it from a copy"
    ) as caught:
        tracking.download_file(record.run_id, "release", tmp_path)
    assert not isinstance(caught.value, LostStoreError)


def test_search_returns_the_runs_of_all_pages_and_experiments(root: Path) -> None:
    with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}) as record:
        record.status = "FINISHED"
    numbers = range(2, 1203)
    runs = [(f"{number:032}", "RUNNING", "active", number, number, "me") for number in numbers]
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.executemany(
            "insert into experiments (experiment_id, name, lifecycle_stage) values (?, ?, 'active')",
            [(number, f"other {number}") for number in numbers],
        )
        columns = "run_uuid, status, lifecycle_stage, experiment_id, start_time, user_id"
        connection.executemany(f"insert into runs ({columns}) values (?, ?, ?, ?, ?, ?)", runs)
        connection.executemany(
            "insert into tags (key, value, run_uuid) values ('mlflow.parentRunId', ?, ?)",
            [(record.run_id, run[0]) for run in runs],
        )
    assert len(run_search.search_runs(f"tags.`mlflow.parentRunId` = '{record.run_id}'")) == len(runs)


@pytest.mark.slow
def test_broken_embedded_store_is_refused_before_anything_starts(root: Path) -> None:
    (root / "mlflow.db").write_bytes(b"not a database at all")
    done = call_in_process(root, "run", "small", "--cold")
    assert done.returncode == 2
    assert "not a complete MLflow database" in done.stderr
    assert load_ledger(root) == []
