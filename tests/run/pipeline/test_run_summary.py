"""What the parent run in MLflow shows of a whole run."""

from pathlib import Path

from labkit.params.load import load_params
from labkit.run.pipeline.progress import Line
from labkit.run.pipeline.run_summary import describe_parent, find_raw_data, load_headline, make_sample_tags
from labkit.run.records.tracking import Record
from labkit.storage.atomic import write_json


def test_parent_is_described_by_the_question_the_results_and_the_decision(checkout: Path) -> None:
    params = load_params("diabetes")
    record = Record("1")
    lines = [Line("training", "ran", 3.0, "linear"), Line("publish", "ran", 1.0, "version 1 is now the champion")]
    describe_parent(record, params, changed={"training.folds": "10"}, lines=lines)
    assert record.description.splitlines() == [
        params.question,
        "",
        "- training: linear",
        "- publish: version 1 is now the champion",
    ]
    assert record.tags == {"labkit.result": "version 1 is now the champion"}
    assert record.params == {"training.folds": "10"}


def test_failed_run_has_no_result(checkout: Path) -> None:
    record = Record("1")
    describe_parent(record, load_params("diabetes"), changed={}, lines=[Line("eda", "failed", 1.0, "")])
    assert record.description.endswith("- eda: failed")
    assert record.tags == {}


def test_headline_is_that_of_the_stages_that_were_asked_for(checkout: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "evaluation/metrics.json", {"metric": "mae", "holdout": 41.0, "cv": None})
    assert load_headline("diabetes", ["training", "evaluation"], tmp_path) == {"holdout_mae": 41.0}
    assert load_headline("diabetes", ["training"], tmp_path) == {}


def test_raw_data_are_the_folders_of_the_first_stage(checkout: Path) -> None:
    (checkout / "data/diabetes/raw").mkdir(parents=True)
    (checkout / "data/diabetes/contract.json").touch()
    outputs = {"data/diabetes/raw": "1" * 64, "data/diabetes/contract.json": "2" * 64}
    assert find_raw_data({"source": {"outputs": outputs}, "eda": {}}) == {"data/diabetes/raw": "1" * 64}
    assert find_raw_data({}) == {}


def test_sample_is_marked() -> None:
    assert make_sample_tags(200) == {"labkit.sample_rows": "200"}
    assert make_sample_tags(None) == {}
