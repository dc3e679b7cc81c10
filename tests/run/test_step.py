"""A stage as its notebook sees it."""

import json
from pathlib import Path

import labkit as package
import pytest
from labkit.errors import DataError, MissingDataError, ParamsError


def test_values_injected_whole_are_no_overrides(checkout: Path) -> None:
    step = package.start("training", "diabetes", package.start("training", "diabetes").params.model_dump(mode="json"))
    assert step.overrides == {}


def test_override_is_typed_checked_and_told(checkout: Path) -> None:
    step = package.start("training", "diabetes", {"folds": 3})
    assert step.params.folds == 3
    assert ("folds", 3, "this notebook", "cross-validation folds over the training rows") in step.describe()
    assert "<td>this notebook</td>" in step._repr_html_()
    assert "folds = 3" in repr(step)


@pytest.mark.parametrize(
    ("stage", "experiment", "overrides", "message"),
    [
        ("trainin", "diabetes", {}, "no stage 'trainin': did you mean 'training'"),
        ("training", "diabets", {}, "no experiment 'diabets'"),
        ("training", "diabetes", {"fold": 3}, "unknown key training.fold: did you mean 'folds'"),
        ("training", "diabetes", {"folds": "3"}, "training.folds is '3'"),
        ("training", "diabetes", {"folds": 1000}, "less than or equal to 20"),
    ],
)
def test_bad_start_is_refused(
    checkout: Path, stage: str, experiment: str, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        package.start(stage, experiment, overrides)


def test_by_hand_everything_goes_to_scratch(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = package.start("wrangling", "diabetes")
    step.save("split", {"method": "by hand"})
    assert json.loads((checkout / "data/diabetes/scratch/clean/split.json").read_text()) == {"method": "by hand"}
    assert not (checkout / "data/diabetes/clean").exists()
    assert step.load("split") == {"method": "by hand"}
    assert "data/diabetes/scratch/clean/split.json; remove that to read the pipeline's own" in capsys.readouterr().out


def test_in_a_run_outputs_go_to_its_folder_and_scratch_is_not_read(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.start("wrangling", "diabetes").save("split", {"method": "by hand"})
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path))
    step = package.start("wrangling", "diabetes")
    step.save("split", {"method": "run"})
    step.log(rows=3)
    step.log_child("linear", params={"alpha": 1}, metrics={"mae": 2})
    step.finish("all well")
    assert json.loads((tmp_path / "outputs/clean/split.json").read_text()) == {"method": "run"}
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert kinds == ["metrics", "child", "finish"]
    with pytest.raises(MissingDataError, match="data/diabetes/clean/split.json: not there yet: run `labkit run diab"):
        step.load("split")


def test_unknown_artifact_names_the_nearest(checkout: Path) -> None:
    with pytest.raises(DataError, match="no artifact 'modell': did you mean 'model'"):
        package.start("training", "diabetes").load("modell")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figure_that_is_no_number_is_refused(checkout: Path, value: float) -> None:
    with pytest.raises(DataError, match="not a finite number"):
        package.start("training", "diabetes").log(mae=value)
