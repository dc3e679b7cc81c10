"""A sweep as a whole: one at a time for an experiment, and its points are adopted as they were measured."""

import os
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.params.load import load_file, load_params
from labkit.run.pipeline.progress import Progress
from labkit.sweep.points import make_points
from labkit.sweep.result import Result, Row, compute_params_digest, save_result
from labkit.sweep.session import adopt_point, hold_sweep

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


def test_point_is_adopted_only_into_the_file_that_it_was_measured_with(params_root: Path) -> None:
    points = make_points(load_file("diabetes"), ["training.folds=3,4"])
    rows = [
        Row(point.number, point.settings, params=compute_params_digest(point.params), is_done=True, score=1.0)
        for point in points
    ]
    save_result(Result("r1", "diabetes", "mae", "training", tuple(rows), 2))
    for number, folds in ((2, 4), (1, 3)):
        adopt_point("diabetes", str(number), Progress())
        assert load_params("diabetes").training.folds == folds
    path = params_root / "params" / "diabetes.yaml"
    path.write_text("# a comment\n" + path.read_text().replace("seed: 42", "seed: 43"))
    changed = path.read_text()
    with pytest.raises(ParamsError) as raised:
        adopt_point("diabetes", "2", Progress())
    assert str(raised.value).startswith(
        "params/diabetes.yaml: changed since r1, in more than what point 2 sets, so the point was measured with other params"
    )
    assert path.read_text() == changed
    path.write_text(changed.replace("seed: 43", "seed: 42"))
    adopt_point("diabetes", "2", Progress())
    assert load_params("diabetes").training.folds == 4
