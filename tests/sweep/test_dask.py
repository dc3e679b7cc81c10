"""Sweeps on a Dask cluster of real processes: workers and the scheduler are killed, and nothing is lost."""

import json
import os
import pickle
import signal
import stat
import subprocess
import sys
from pathlib import Path

import dask
import distributed
import psutil
import pytest
from labkit.errors import ParamsError
from labkit.run.cluster import worker_check
from labkit.run.cluster.connection import Cluster, check_certificates, check_workers
from labkit.storage.digests import compute_digest
from labkit.sweep.dask_engine import DaskEngine, get_exit_code
from labkit.sweep.worker import FAILURE, Task

from tests.conftest import call_in_process, call_labkit
from tests.dask_cluster import open_cluster
from tests.run.small import find_tracked, load_ledger, make_small, start, wait_until
from tests.shared_server import SharedServer

SLOW = "time.sleep(2)"
SWEEP = ("sweep", "small", "-S", "seed=1,2,3,4")


def find_busy(workers: list["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes] | None":
    """Return a worker that runs a node, None if there is none."""
    return next((one for one in workers if psutil.Process(one.pid).children()), None)


def list_seeds(root: Path) -> dict[str, str]:
    """Return the digest of what each node wrote."""
    nodes = root / ".labkit" / "sweeps" / "small" / "nodes"
    return {path.name: compute_digest(path / "data" / "small" / "eda") for path in nodes.iterdir()}


def list_statuses(root: Path) -> set[str]:
    """Return the statuses of all runs in MLflow."""
    return {status for status, _ in find_tracked(root).values()}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "--dask somewhere: not the address of a scheduler: write e.g. tcp://10.0.0.1:8786"),
        ("tcp://127.0.0.1:1", "--dask tcp://127.0.0.1:1: no scheduler there: start one with `dask scheduler`"),
        ("tls://127.0.0.1:1", "--dask tls://127.0.0.1:1: Dask's configuration has no certificates: set "),
    ],
)
def test_address_without_a_scheduler_starts_nothing(tmp_path: Path, address: str, message: str) -> None:
    root = make_small(tmp_path / "checkout", "eda")
    done = call_in_process(root, *SWEEP, "--dask", address)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (root / ".labkit" / "sweeps").exists()
    assert load_ledger(root) == []


def test_certificates_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    with (
        dask.config.set({f"distributed.comm.tls.{key}": str(tmp_path / "pem") for key in ("ca-file", "client.cert")}),
        pytest.raises(ParamsError, match="the certificates of Dask's configuration cannot be read: .*No such file"),
    ):
        check_certificates("tls://127.0.0.1:1")


def test_password_of_the_tracking_server_does_not_reach_dask(tmp_path: Path) -> None:
    environment = {"MLFLOW_TRACKING_URI": "postgresql://user:hunter2@db/mlflow"}
    file = tmp_path / ".labkit" / "task.json"
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        engine = DaskEngine(Cluster(client, 1, "here"), 1)
        engine.submit(Task("key", "small", "eda", tmp_path, 1, environment, ""))
        assert "hunter2" in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (submitted,) = wait_until(lambda: list(client.cluster.scheduler.tasks.values()))
        given = pickle.dumps(submitted.run_spec)
        assert str(tmp_path).encode() in given
        assert b"hunter2" not in given
        engine.stop()
    assert not file.exists()


def test_error_of_a_worker_is_the_failure_of_the_node(tmp_path: Path) -> None:
    task = Task("key", "small", "eda", tmp_path, 1, {}, "")
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        assert get_exit_code(client.submit(int, "no number"), task) == 1
    written = json.loads((tmp_path / FAILURE).read_text())
    assert written["message"].startswith("its worker failed: ValueError: invalid literal for int()")


def test_workers_need_the_same_checkout_and_versions(params_root: Path) -> None:
    versions = worker_check.list_worker_versions(["numpy"])
    assert set(versions) == {"Python", "labkit", "numpy"}
    (params_root / "token").touch()
    assert worker_check.find_obstacle(str(params_root), "token", versions) == ""
    wanted = versions | {"numpy": "0.1", "no-such-package": "1.0"}
    assert worker_check.find_obstacle(str(params_root), "token", wanted) == (
        f"no-such-package not installed (here 1.0); numpy {versions['numpy']} (here 0.1)"
    )
    assert worker_check.find_obstacle(str(params_root), "other", versions) == f"another checkout at {params_root}"
    nowhere = str(params_root / "nowhere")
    assert worker_check.find_obstacle(nowhere, "other", versions) == f"no checkout at {nowhere}"
    (params_root / "requirements.lock").write_text("numpy==0.1\n")  # what counts is what is installed here
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        assert check_workers(client, "tcp://here") == 1
    assert list((params_root / ".labkit").iterdir()) == []


@pytest.mark.parametrize("ends", ["the worker", "the time"])
def test_node_with_a_slow_clean_up_does_not_outlive_its_worker(tmp_path: Path, ends: str) -> None:
    (tmp_path / ".labkit").mkdir()
    code = f"""
import signal, sys, threading, time
from pathlib import Path
from labkit.sweep import node_process
node_process.POLL_SECONDS, node_process.STOP_SECONDS = 0.1, {60 if ends == "the worker" else 0.5}
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    threading.Thread(target=node_process.end_with_worker, args=[Path({str(tmp_path)!r})], daemon=True).start()
    print("runs", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("cleans up", flush=True)
    time.sleep(60)
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as node:
        assert node.stdin
        assert node.stdout
        assert node.stdout.readline() == "runs\n"
        (tmp_path / ".labkit" / "stop").touch()
        assert node.stdout.readline() == "cleans up\n"
        if ends == "the worker":
            node.stdin.close()
        try:
            assert node.wait(20) == -signal.SIGKILL
        finally:
            node.kill()


@pytest.mark.slow
@pytest.mark.fault
def test_sweep_loses_nothing_with_a_worker_or_the_scheduler(
    tmp_path: Path, store: Path, shared_server: SharedServer
) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=SLOW)
    shared_server.lend(root)
    with open_cluster(root, 0) as (address, _):
        done = call_labkit(root, *SWEEP, "--dask", address)
        assert (done.returncode, "the cluster has no worker" in done.stderr) == (2, True), done.stdout + done.stderr
    with open_cluster(root, 2) as (address, (scheduler, *workers)):
        # The scheduler is killed: the sweep stops with one message, and nothing is left running.
        run = start(root, *SWEEP, "--dask", address)
        busy = wait_until(lambda: find_busy(workers))
        node = psutil.Process(busy.pid).children()[0]
        scheduler.kill()
        output, errors = run.communicate(timeout=120)
        assert run.returncode == 1, output + errors
        assert f"the Dask cluster {address} is gone" in errors
        assert "Traceback" not in errors
        node.wait(30)
    with open_cluster(root, 2) as (address, (_, *workers)):
        # A worker is killed for good: the other one takes over.
        run = start(root, *SWEEP, "--dask", address, "--json")
        wait_until(lambda: find_busy(workers)).kill()
        output, errors = run.communicate(timeout=300)
        assert run.returncode == 0, output + errors
        result = json.loads(output)
        assert [row["is_done"] for row in result["rows"]] == [True] * 4
    assert list_statuses(root) <= {"FINISHED", "FAILED"}
    # The same as without a cluster.
    made = list_seeds(root)
    assert len(made) == 4
    (root / ".labkit" / "sweeps").rename(root / ".labkit" / "before")
    done = call_labkit(root, *SWEEP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list_seeds(root) == made


@pytest.mark.slow
def test_sweep_on_a_local_cluster_can_be_interrupted_and_continued(
    tmp_path: Path, store: Path, shared_server: SharedServer
) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=SLOW)
    shared_server.lend(root)
    run = start(root, *SWEEP, "--jobs", "2", "--dask")
    nodes = root / ".labkit" / "sweeps" / "small" / "nodes"
    wait_until(lambda: list(nodes.glob("*/.labkit/ledger.jsonl")))
    os.kill(run.pid, signal.SIGINT)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 130, output + errors
    assert list_statuses(root) <= {"FINISHED", "FAILED", "KILLED"}
    done = call_labkit(root, *SWEEP, "--jobs", "2", "--dask")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 points done up to eda" in done.stdout
    assert list_statuses(root) <= {"FINISHED", "FAILED", "KILLED"}
