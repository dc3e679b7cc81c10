"""The points of a sweep: which ones there are, and what is refused before anything starts."""

from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.params.load import load_file
from labkit.sweep.points import MOST_POINTS, expand, make_points

MODELS = "training.models=[linear],[lightgbm]"


def test_every_combination_is_a_point() -> None:
    found = expand([MODELS, "training.folds=3,5"])
    assert found == [
        ("training.models=[linear]", "training.folds=3"),
        ("training.models=[linear]", "training.folds=5"),
        ("training.models=[lightgbm]", "training.folds=3"),
        ("training.models=[lightgbm]", "training.folds=5"),
    ]


def test_points_drawn_at_random_are_the_same_each_time_and_in_order() -> None:
    settings = ["training.folds=" + ",".join(map(str, range(2, 12))), "seed=1,2,3"]
    drawn, every = expand(settings, n_random=7, seed=1), expand(settings)
    assert drawn == expand(settings, n_random=7, seed=1) == sorted(drawn, key=every.index)
    assert len(set(drawn)) == 7
    assert drawn != expand(settings, n_random=7, seed=2)
    assert expand(settings, n_random=30) == every


def test_points_are_drawn_from_any_number_of_combinations() -> None:
    settings = [f"p{place}=" + ",".join(map(str, range(10))) for place in range(30)]
    drawn = expand(settings, n_random=20)
    assert drawn == sorted(set(drawn))
    assert (len(drawn), {len(one) for one in drawn}) == (20, {30})


@pytest.mark.parametrize(
    ("settings", "n_random", "message"),
    [
        ([], None, "a sweep needs parameters with their values"),
        (["training.folds"], None, "-S training.folds: no '=': write section.field=value,value"),
        (["training.folds=3,"], None, "-S training.folds=3,: a value is missing"),
        (["seed=1,2", "seed=3"], None, "-S seed: given twice"),
        (["seed=1,2"], 3, "--random 3: there are only 2 combinations"),
        (["seed=" + ",".join(map(str, range(MOST_POINTS + 1)))], None, "1,001 points, but at most 1,000 are allowed"),
    ],
)
def test_settings_that_make_no_sweep_are_refused(settings: list[str], n_random: int | None, message: str) -> None:
    with pytest.raises(ParamsError) as raised:
        expand(settings, n_random=n_random)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.depth=3,5"], "unknown key training.depth"),
        (["training.folds=3,many"], "training.folds"),
        (["training.folds=3,3"], "points 1 and 2 are the same (training.folds=3): give each value once"),
        (["training.metric=mae,rmse"], "point 2 (training.metric=rmse): training.metric decides what is measured"),
        (["training.metric=rmse"], "point 1 (training.metric=rmse): training.metric decides what is measured"),
        (
            ["training={models: [dummy], metric: mae},{models: [dummy], metric: rmse}"],
            "point 2 (training={models: [dummy], metric: rmse}): training.metric decides what is measured",
        ),
        (["data.target.column=target,bmi"], "point 2 (data.target.column=bmi): data decides what is measured"),
        (
            ["data.split.holdout=0.25,0.3"],
            "point 2 (data.split.holdout=0.3): data decides what is measured, or on which",
        ),
        (["wrangling.duplicates=keep,drop"], "point 2 (wrangling.duplicates=drop): wrangling.duplicates decides"),
        # The value that a parameter has anyway.
        (["training.repeats=1,1"], "points 1 and 2 are the same"),
    ],
)
def test_points_that_are_not_valid_are_refused(params_root: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ParamsError) as raised:
        make_points(load_file("diabetes"), settings)
    assert message in str(raised.value)


def test_params_file_is_not_written(params_root: Path) -> None:
    before = (params_root / "params" / "diabetes.yaml").read_bytes()
    points = make_points(load_file("diabetes"), [MODELS, "training.folds=3,4"])
    assert [(point.params.training.models, point.params.training.folds) for point in points] == [
        (("linear",), 3),
        (("linear",), 4),
        (("lightgbm",), 3),
        (("lightgbm",), 4),
    ]
    assert (params_root / "params" / "diabetes.yaml").read_bytes() == before
