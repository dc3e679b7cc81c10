"""Runs killed at random moments lose nothing; `benchmarks/kills.py` does it two hundred times."""

import os
import random
import subprocess
import sys
import tempfile

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.slow, pytest.mark.fault]


def test_killed_runs_lose_nothing() -> None:
    seed = random.randrange(10_000)
    options = ["16", "--in-a-row", "8", "--after", "5", "--seed", str(seed)]
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), *options]
    # Its own folder for sockets: other tests kill runs at the same time, and leave folders to be removed by the next run.
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    assert "0 processes left 2 s after a kill, 0 faults" in done.stdout
