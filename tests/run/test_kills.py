"""Runs killed at random moments lose nothing; `benchmarks/kills.py` does it two hundred times."""

import os
import random
import subprocess
import sys
import tempfile

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.slow, pytest.mark.fault]


def kill(*options: str) -> str:
    """Kill runs with a seed that is shown if something is lost, and return what was printed."""
    seed = str(random.randrange(10_000))
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), *options, "--seed", seed]
    # Its own folder for sockets: other tests kill runs at the same time, and leave folders to be removed by the next run.
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_killed_runs_lose_nothing() -> None:
    assert "0 processes left 2 s after a kill, 0 faults" in kill("16", "--in-a-row", "8", "--after", "5")


def test_a_run_that_is_killed_or_interrupted_leaves_that_of_another_experiment_alone() -> None:
    assert ", 0 faults" in kill("4", "--beside")
