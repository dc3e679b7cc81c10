"""A stage as its notebook sees it."""

import html
import json
import threading
from _thread import interrupt_main
from decimal import Decimal
from pathlib import Path

import labkit as package
import numpy as np
import pytest
from labkit.errors import DataError, MissingDataError, ParamsError, StageError

from tests.hostile_strings import HOSTILE
from tests.run.small import find_done, load_ledger, make_small, wait_until
from tests.shared_server import SharedServer


def test_values_injected_whole_are_no_overrides(params_root: Path) -> None:
    step = package.start("training", "diabetes", package.start("training", "diabetes").params.model_dump(mode="json"))
    assert step.overrides == {}


def test_override_is_typed_checked_and_reported(params_root: Path) -> None:
    step = package.start("training", "diabetes", {"folds": 3})
    assert step.params.folds == 3
    assert ("folds", 3, "this notebook", "cross-validation folds over the training rows") in step.describe()
    assert "<td>this notebook</td>" in step._repr_html_()
    assert step._repr_html_().startswith(f"<p>training of diabetes: <strong>{html.escape(step.subject.question)}<")
    assert repr(step).startswith("How far will this patient's diabetes have progressed in one year?\n")
    assert "folds = 3" in repr(step)


@pytest.mark.parametrize(
    ("stage", "experiment", "overrides", "message"),
    [
        ("trainin", "diabetes", {}, "no stage 'trainin': did you mean 'training'"),
        ("training", "diabets", {}, "no experiment 'diabets'"),
        ("training", "diabetes", {"fold": 3}, "unknown key training.fold: did you mean 'folds'"),
        ("training", "diabetes", {"folds": "3"}, "training.folds is '3'"),
        ("training", "diabetes", {"folds": 1000}, "training.folds is 1000: write 20 or less"),
        ("training", "diabetes", {"models": ("linear",)}, r"training\.models is a tuple: write a list"),
        ("training", "diabetes", {"folds": Decimal(3)}, r"training\.folds is a Decimal"),
        ("training", "diabetes", {5: 3}, "training has a key of type int: keys are strings"),
        ("training", "diabetes", {"folds": float("nan")}, r"training\.folds is nan: use plain finite values"),
        ("training", "diabetes", {"folds": 10**5000}, r"training\.folds is an integer of more than 4,300 digits"),
        ("deploy", "diabetes", {"owner": "\ud800"}, r"deploy\.owner is not valid Unicode"),
        ("deploy", "diabetes", {"owner": "x" * 100_000}, r"deploy\.owner is a string of 100,000 bytes"),
        ("deploy", "diabetes", {"owner": "${USER}"}, r"deploy holds \$\{USER\}: placeholders are not filled in"),
        ("training", "diabetes", {"api_key": "x"}, r"training\.api_key looks like a secret: name it under `secrets`"),
        ("training", "diabetes", {"f\u043elds": 3}, "unknown key training.f\u043elds: did you mean 'folds'"),
        ("training", "diabetes", ["folds"], "training is a list: write a mapping"),
        ("training", "diabetes", "folds=3", "training is a str: write a mapping"),
        ("training", 5, {}, "experiment is 5: name a params file"),
        ("training", "../params/diabetes", {}, "no experiment '../params/diabetes'"),
    ],
)
def test_bad_start_is_refused(
    params_root: Path, stage: str, experiment: str, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        package.start(stage, experiment, overrides)


def test_numbers_of_numpy_are_numbers(params_root: Path) -> None:
    step = package.start("training", "diabetes", {"folds": np.int64(3), "models": np.array(["linear", "dummy"])})
    assert step.params.folds == 3
    assert step.params.models == ("linear", "dummy")


def test_hostile_string_reaches_the_step_as_it_is(params_root: Path) -> None:
    for string in HOSTILE:
        if "${" not in string:
            assert package.start("deploy", "diabetes", {"intended_use": string}).params.intended_use == string


def test_by_hand_everything_goes_to_scratch(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = package.start("wrangling", "diabetes")
    step.save("split", {"method": "by hand"})
    assert json.loads((params_root / "data/diabetes/scratch/clean/split.json").read_text()) == {"method": "by hand"}
    assert not (params_root / "data/diabetes/clean").exists()
    assert step.load("split") == {"method": "by hand"}
    assert "data/diabetes/scratch/clean/split.json; delete that to load the pipeline's" in capsys.readouterr().out


def test_in_a_run_outputs_go_to_its_folder_and_scratch_is_not_read(
    params_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    with pytest.raises(MissingDataError, match="data/diabetes/clean/split.json: not written yet: run `labkit run diab"):
        step.load("split")


def test_unknown_artifact_names_the_nearest(params_root: Path) -> None:
    with pytest.raises(DataError, match="no artifact 'modell': did you mean 'model'"):
        package.start("training", "diabetes").load("modell")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metric_that_is_not_a_number_is_refused(params_root: Path, value: float) -> None:
    with pytest.raises(DataError, match="not a finite number"):
        package.start("training", "diabetes").log(mae=value)


def test_pipeline_is_not_run_from_within_it(params_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(params_root))
    with pytest.raises(
        ParamsError, match=r"^step.run\(\): the pipeline runs this notebook already: remove it from eda"
    ):
        package.start("eda", "diabetes").run()


@pytest.mark.slow
def test_stage_and_what_follows_run_from_a_notebook(
    tmp_path: Path,
    store: Path,
    shared_server: SharedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = shared_server.lend(make_small(tmp_path / "checkout", "eda", "wrangling", store=store, wrangling="1 / 0"))
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)
    step = package.start("eda", "small", {"most_columns": 3})
    step.run(until="eda")
    shown = capsys.readouterr().out
    assert shown.startswith("Not used by the pipeline, which reads params/small.yaml: most_columns of this notebook.\n")
    assert "labkit run small --force eda --until eda   (process " in shown
    assert "eda          ran " in shown
    with pytest.raises(StageError, match="^labkit run small --force eda ended with exit code 1: its message is above$"):
        step.run()
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert find_done(root)["wrangling"]["outcome"] == "failed"


@pytest.mark.slow
def test_interrupted_cell_interrupts_the_run_that_it_started(
    tmp_path: Path,
    store: Path,
    shared_server: SharedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = shared_server.lend(make_small(tmp_path / "checkout", "eda", store=store, eda="time.sleep(60)"))
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)

    def has_begun() -> bool:
        return any(line["kind"] == "start" and line["stage"] == "eda" for line in load_ledger(root))

    interrupt = threading.Thread(target=lambda: (wait_until(has_begun), interrupt_main()))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        package.start("eda", "small").run()
    interrupt.join()
    assert "labkit: interrupted; finished stages are kept" in capsys.readouterr().out
    assert {name: done["outcome"] for name, done in find_done(root).items()} == {
        "eda": "interrupted",
        "run": "interrupted",
    }
