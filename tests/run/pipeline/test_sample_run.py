"""A sample run is a quick try: it takes less effort than the params ask for, unless the user asks for it."""

from pathlib import Path

from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.pipeline.sample_run import MOST_EFFORT, limit_effort


def test_sample_takes_less_effort(params_root: Path) -> None:
    apply_overrides("diabetes", ["training.tuning_trials=2", "training.folds=10", "evaluation.bootstrap_samples=1000"])
    found = limit_effort(load_params("diabetes"), [])
    assert found == [
        "training.folds=3",
        "training.repeats=1",
        "evaluation.bootstrap_samples=200",
        "evaluation.importance_rows=500",
    ]
    apply_overrides("diabetes", found)
    assert limit_effort(load_params("diabetes"), []) == []


def test_settings_of_the_user_count(params_root: Path) -> None:
    given = ["training.folds=10", " training.repeats = 2"]
    found = {setting.partition("=")[0] for setting in limit_effort(load_params("diabetes"), given)}
    assert found <= MOST_EFFORT.keys() - {"training.folds", "training.repeats"}
