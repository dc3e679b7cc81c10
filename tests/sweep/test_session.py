"""A sweep as a whole: one at a time for an experiment."""

import os
from pathlib import Path

import pytest
from labkit.run.pipeline.progress import Progress
from labkit.sweep.session import hold_sweep

from tests.run.small import make_small, started


def test_sweep_waits_for_another_one_of_its_experiment(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    with hold_sweep("small", Progress()), started(root, "sweep", "small", "-S", "seed=1,2") as run:
        assert run.stdout
        line = run.stdout.readline()
        assert line.startswith(f"waiting for labkit sweep small (process {os.getpid()}, since ")
        assert not (root / ".labkit" / "sweeps").exists()
