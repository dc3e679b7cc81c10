"""Points of a sweep in `labkit compare`: what their stages wrote is that of the point, verified."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.params.load import load_file
from labkit.stages.run_comparison import RunComparison, compare_runs
from labkit.storage.atomic import write_json
from labkit.sweep.compared_point import find_compared_run
from labkit.sweep.light_checkout import make_light_checkout
from labkit.sweep.nodes import adopt_node, find_node_root, find_sweeps_dir
from labkit.sweep.points import make_points
from labkit.sweep.result import LATEST, Result, Row, compute_params_digest

from tests.conftest import ROOT
from tests.own_store import work_in

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]
STAGES = ("source", "eda", "wrangling", "features", "training", "evaluation")


@pytest.fixture(scope="module")
def swept(root: Path) -> Iterator[Path]:
    """Return a checkout with a sweep of three points: two have what the checkout has, one ended with training."""
    shutil.copy(ROOT / "params" / "diabetes.yaml", root / "params")
    with work_in(root):
        folder, file = find_sweeps_dir("diabetes"), load_file("diabetes")
        shutil.rmtree(folder, ignore_errors=True)
        keys = {stage: f"{number}" * 64 for number, stage in enumerate(STAGES)}
        for stage, key in keys.items():
            adopt_node(file.params, file.content, stage, key)
        rows = []
        for point in make_points(file, ["training.folds=3,4,5"]):
            make_light_checkout(folder / "points" / str(point.number), "diabetes", point.file.content)
            made = keys if point.number < 3 else {name: key for name, key in keys.items() if name != "evaluation"}
            params = compute_params_digest(point.params)
            rows.append(Row(point.number, point.settings, params=params, is_done=True, score=1.0, keys=made))
        (folder / "points" / "0" / "params").mkdir(parents=True)
        (folder / "points" / "0" / "params" / "diabetes.yaml").write_text("from: an earlier version\n")
        write_json(folder / LATEST, Result("diabetes-1", "diabetes", "mae", "evaluation", tuple(rows), 0).to_dict())
        yield root
        shutil.rmtree(folder)


def compare(first: str, second: str) -> RunComparison:
    return compare_runs("diabetes", first, second, find=find_compared_run)


def test_points_are_compared_by_what_their_stages_wrote(swept: Path) -> None:
    found = compare("@point1", "@point2")
    assert not found.is_same_run
    assert found.has_same_data
    assert found.params == [{"name": "training.folds", "first": 3, "second": 4}]
    assert found.gain_reason.endswith("the first run predicts the same as the second")
    assert found.checks == []
    assert found.metrics[0]["name"] == "mae"
    assert ("second", "point 2 of diabetes-1") in found.describe()
    assert compare("@point2", "@point2").is_same_run


def test_stage_that_did_not_run_is_missing(swept: Path) -> None:
    found = compare("@point1", "@point3")
    assert found.gain is None
    missing = "no data/diabetes/evaluation/predictions.parquet: the stage that writes it has not run for point 3"
    assert missing in found.second.missing
    assert found.params == [{"name": "training.folds", "first": 3, "second": 5}]


def test_file_changed_after_its_stage_is_not_compared(swept: Path) -> None:
    path = find_node_root("diabetes", "5" * 64) / "data/diabetes/evaluation/predictions.parquet"
    content = path.read_bytes()
    try:
        path.unlink()
        path.write_bytes(content[:-1])
        found = compare("@point1", "@point2")
    finally:
        path.write_bytes(content)
    assert found.gain is None
    assert any("was changed after its stage wrote it" in line for line in found.first.missing)


def test_removed_folder_of_one_stage_leaves_the_others(swept: Path) -> None:
    folder = find_node_root("diabetes", "0" * 64)
    aside = folder.rename(folder.with_name("aside"))
    try:
        found = compare("@point1", "@point2")
    finally:
        aside.rename(folder)
    assert found.gain is not None
    assert found.has_same_data is None


@pytest.mark.parametrize("word", ["@point0", "@point4", "@point", "@pointx"])
def test_point_that_is_none_is_refused(swept: Path, word: str) -> None:
    with pytest.raises(ParamsError, match="write @point and one of 1; 2; 3"):
        compare(word, "@last")
