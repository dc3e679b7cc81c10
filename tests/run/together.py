"""Many processes that use one tracking store at the same moment, or are killed as they make it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.conftest import make_environment

# Forks of one process, so that they come at the same moment. Each prints the seconds that each of its runs took.
TOGETHER = """
import os, sys, time
from labkit.params.load import load_params
from labkit.run.records import recovery, tracking
params, n = load_params("small"), int(sys.argv[1])
children = []
for number in range(n):
    if (pid := os.fork()) == 0:
        code = 1
        try:
            for _ in range(int(sys.argv[2])):
                begun = time.monotonic()
                with tracking.open_run(params, f"run {number}", parent_id=None, tags={}) as record:
                    record.metrics["number"] = number
                    record.status = "FINISHED"
                os.write(1, f"{time.monotonic() - begun}\\n".encode())
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    children.append(pid)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def start_together(root: Path, n: int, n_runs: int = 1, stdout: Any = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    """Start `n` processes that record `n_runs` runs each."""
    command = [sys.executable, "-c", TOGETHER, str(n), str(n_runs)]
    environment = make_environment(root)
    return subprocess.Popen(command, start_new_session=True, cwd=root, env=environment, stdout=stdout, text=True)


def list_runs(root: Path) -> list[Any]:
    """Return what MLflow knows of the experiment `small`."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    return list(client.search_runs([experiment.experiment_id], max_results=10_000))


def check_whole(root: Path) -> list[str]:
    """Return what is wrong with a store that has been made."""
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        found = {
            name: connection.execute(f"pragma {name}").fetchone()[0] for name in ("integrity_check", "journal_mode")
        }
    faults = [f"{name}: {value}" for name, value in found.items() if value not in ("ok", "wal")]
    return faults + [f"left over: {path.name}" for path in root.glob(".*.part")]


def remove_parts(root: Path) -> None:
    """Remove what killed makers left half-written, which the next command does where a ledger records them."""
    for path in root.glob(".mlflow.db.*.part*"):
        path.unlink()


def kill_maker(root: Path, delay_seconds: float) -> bool:
    """Kill two processes as they make the store; return whether they had not finished. One that is there is removed."""
    remove_parts(root)
    process = start_together(root, 2)
    until = time.monotonic() + 120
    while not list(root.glob(".mlflow.db.*.part")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(delay_seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    remove_parts(root)
    if not (root / "mlflow.db").exists():
        return True
    # They were quicker: then the store is a whole one.
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    for path in root.glob("mlflow.db*"):
        path.unlink()
    return False
