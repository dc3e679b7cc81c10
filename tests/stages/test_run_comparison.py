"""Two runs that were really recorded, in MLflow and in DVC's cache, and what `labkit compare` shows of them."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from labkit import paths
from labkit.artifacts import CHECKED, PLACES
from labkit.cli import main
from labkit.data.table_files import save_table
from labkit.errors import StageError
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.bootstrap import compare_paired
from labkit.model.evaluation.predictions import Predictions
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.params.tables import Target
from labkit.run import dvc_cache
from labkit.run.records import ledger, registry, tracking
from labkit.run.records.champion_moves import CHAMPION
from labkit.run.records.run_record import RunRecord
from labkit.secrets.redaction import Mask
from labkit.stages import prediction_comparison
from labkit.stages.last_change import describe_last_change
from labkit.stages.model_versions import METRIC_TAG
from labkit.stages.scorecard import list_champion_versions
from labkit.storage.atomic import write_json
from labkit.view.board.runs_panel import RunsPanel

from tests.conftest import ROOT
from tests.own_store import work_in

pytestmark = pytest.mark.xdist_group("compare")
N_ROWS = 60
LONG = "median_absolute_error"
RANDOM = np.random.default_rng(0)
TRUE = pd.Series(RANDOM.normal(150, 50, N_ROWS))
NOISE = RANDOM.normal(0, 1, N_ROWS)
STAGES = {
    "wrangling": ("split", "clean_holdout"),
    "features": ("feature_checks",),
    "training": ("choice",),
    "evaluation": ("evaluation", "predictions"),
    "explanation": ("explanation",),
}
"""Stage → artifacts that DVC keeps of it here."""


def record_run(error: float, *, status: str, n_rows: int = N_ROWS, lost: str = "") -> str:
    """Record a finished run whose predictions are wrong by so much, and return its name.

    Parameters
    ----------
    status
        Status of the check LK505.
    lost
        The artifact that is removed from DVC's cache afterwards.
    """
    write_artifacts(error, status=status, n_rows=n_rows)
    objects = commit_to_dvc(paths.find_root())
    with open_run_here() as (entry, record):
        record.finish("finished")
    if lost:
        objects[lost].unlink()
    return entry.run


@contextmanager
def open_run_here() -> Iterator[tuple[ledger.Entry, RunRecord]]:
    """Open a run of the pipeline in this process, as `labkit run` does."""
    params = load_params("diabetes")
    with (
        ledger.open_entry("diabetes", facts={"asked": {}}) as entry,
        tracking.open_run(params, entry.run, parent_id=None, tags={}, entry=entry) as opened,
    ):
        record = RunRecord(entry, params, Mask(), {}, ("source", *STAGES))
        record.prepare()
        record.begin(opened.run_id)
        yield entry, record
        opened.status = "FINISHED"


def write_artifacts(error: float, *, status: str, n_rows: int = N_ROWS) -> None:
    """Write what the stages of a run write; parameters as in `record_run`."""
    data = paths.find_data_dir("diabetes")
    holdout = pd.DataFrame({"age": 1.0, "target": TRUE[:n_rows]}).rename_axis(index="row")
    predicted = pd.DataFrame({"true": holdout["target"], "prediction": holdout["target"] + error * NOISE[:n_rows]})
    interval = {"value": error, "low": error - 1, "high": error + 1}
    wide = {"value": 40 + error, "low": 30 + error, "high": 50 + error}
    check = {"code": "LK505", "title": "Better than LightGBM", "status": status, "evidence": "by 1"}
    evaluation = {"metric": "mae", "holdout": {"r2": interval, "mae": interval, LONG: wide}, "checks": [check]}
    (data / "raw").mkdir(parents=True, exist_ok=True)
    (data / "raw" / "patients.csv").write_text("age\n1\n")
    save_table(data / PLACES["clean_holdout"], holdout)
    save_table(data / PLACES["predictions"], predicted)
    explained = {"code": "LK902", "title": "Precise explanations", "status": status, "evidence": "by 1"}
    contents = {"evaluation": evaluation, "explanation": {"checks": [explained]}}
    for name in CHECKED:
        write_json(data / PLACES[name], contents.get(name, {"checks": []}))


def commit_to_dvc(root: Path) -> dict[str, Path]:
    """Do what `dvc commit` does: copy the artifacts into the cache and write dvc.lock; return the copies by artifact."""
    stages, objects = {}, {}
    for stage, artifacts in STAGES.items():
        outs = []
        for name in artifacts:
            place = f"data/diabetes/{PLACES[name]}"
            md5 = hashlib.md5((root / place).read_bytes(), usedforsecurity=False).hexdigest()
            objects[name] = dvc_cache.find_object(md5)
            objects[name].parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / place, objects[name])
            outs.append({"path": place, "hash": "md5", "md5": md5})
        stages[f"{stage}@diabetes"] = {"cmd": f"labkit stage {stage} diabetes", "outs": outs}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return objects


def crown(run: str) -> None:
    """Make a release below a run the champion."""
    params = load_params("diabetes")
    parent = next(one.tracked for one in ledger.load_entries() if one.run == run)
    with tracking.open_run(params, "deploy", parent_id=parent, tags={}) as opened:
        opened.status = "FINISHED"
    files = paths.find_root() / "release"
    write_json(files / "model.json", {})
    tags = {METRIC_TAG: json.dumps({"name": "mae", "value": 20.0, "low": 19.0, "high": 21.0})}
    version = registry.register_model("diabetes", opened.run_id, files, release_dir=files, digest="0" * 64, tags=tags)
    registry.set_alias("diabetes", CHAMPION, version)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the names of four runs, each with other results, of a checkout that labkit finds in this process."""
    root = tmp_path_factory.mktemp("compare") / "checkout"
    shutil.copytree(ROOT / "params", root / "params")
    for name in ("dvc.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    with work_in(root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        named = {"champion": record_run(20.0, status="warning")}
        crown(named["champion"])
        named["fewer"] = record_run(20.0, status="warning", n_rows=N_ROWS - 1)
        named["lost"] = record_run(30.0, status="warning", lost="predictions")
        apply_overrides("diabetes", ["seed=7", "training.tuning_trials=3"])
        named["last"] = record_run(10.0, status="passed")
        yield named


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what the command printed to standard output."""
    assert main.call(main.cli, ["compare", "diabetes", *words]) == 0
    return capsys.readouterr().out


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return the document that the command printed."""
    document: dict[str, Any] = json.loads(call(capsys, *words, "--json"))
    return document


def test_board_explores_the_errors_of_both_runs(runs: dict[str, str]) -> None:
    panel = RunsPanel()
    panel.show("diabetes")
    panel.compare()
    [explorer] = panel.errors.children
    mean = float(np.abs(NOISE).mean())
    result = next(child.value for child in explorer.children if "measured on" in getattr(child, "value", ""))
    means = f"Mean absolute error: {10 * mean:.2f} (first) and {20 * mean:.2f} (second)"
    assert f"{means}, measured on the same 60 holdout patients. " in result
    panel.first.value = "@champion"
    panel.compare()
    assert panel.errors.children == ()
    assert "both are the same run" in panel.result.value


def test_latest_run_is_compared_with_that_of_the_champion(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(capsys)
    assert (found["first"]["run"], found["first"]["role"]) == (runs["last"], "@last")
    assert (found["second"]["run"], found["second"]["role"]) == (runs["champion"], "@champion (version 1)")
    assert (found["same_run"], found["same_data"]) == (False, True)
    assert found["params"] == [
        {"name": "seed", "first": 7, "second": 42},
        {"name": "training.tuning_trials", "first": 3},
    ]
    assert [line["name"] for line in found["metrics"]] == ["mae", LONG, "r2"]
    assert found["metrics"][0]["second"] == {"value": 20.0, "low": 19.0, "high": 21.0}
    assert found["checks"] == [
        {"code": "LK505", "title": "Better than LightGBM", "first": "passed", "second": "warning"},
        {"code": "LK902", "title": "Precise explanations", "first": "passed", "second": "warning"},
    ]
    assert found["first"]["missing"] == found["second"]["missing"] == []


def test_paired_gain_is_that_of_the_stored_predictions(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    gain = compare(capsys)["gain"]
    params, y_true = load_params("diabetes"), TRUE.to_numpy()
    ours, theirs = (Predictions(y_true, y_true + error * NOISE) for error in (10.0, 20.0))
    evaluation = params.evaluation
    expected = compare_paired(
        "mae",
        ours,
        theirs,
        n_samples=evaluation.bootstrap_samples,
        confidence=evaluation.confidence,
        seed=7,
        blocks=make_rows(N_ROWS),
    )
    assert {name: gain[name] for name in ("value", "low", "high")} == pytest.approx(expected.to_dict())
    assert (gain["metric"], gain["rows"], gain["confidence"]) == ("mae", N_ROWS, evaluation.confidence)
    assert gain["low"] > 0


def test_other_rows_have_no_paired_gain(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(capsys, "@last", runs["fewer"])
    assert found["gain"] is None
    assert found["gain_reason"] == "no paired gain: the two were evaluated on different rows (60 rows and 59 rows)"
    assert found["second"]["missing"] == []


def test_what_is_not_stored_is_named_and_the_rest_is_compared(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(capsys, runs["lost"][-8:])
    assert found["first"]["run"] == runs["lost"]
    assert found["first"]["missing"] == ["data/diabetes/evaluation/predictions.parquet is no longer in DVC's cache"]
    assert found["second"]["missing"] == []
    assert (found["gain"], found["gain_reason"]) == (None, "no paired gain: not everything that it needs is stored")
    assert found["metrics"][0]["first"]["value"] == 30.0
    assert (found["params"], found["checks"]) == ([], [])


def test_it_is_readable_in_80_columns(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.rstrip() for line in call(capsys).splitlines()]
    assert max(map(len, lines)) <= 80
    printed = " ".join(" ".join(lines).split())
    assert f"first {runs['last']} @last, " in printed
    assert "data the same" in printed
    assert "on the same 60 rows the first run is better than the second in mae by" in printed
    assert re.search(r"mae \d\.\d \[\d\.\d, \d+\.\d\] 10\.0 \[9\.0, 11\.0\] 20\.0 \[19\.0, 21\.0\]", printed)
    assert any(line.startswith(f"{LONG}  ") for line in lines)
    assert "LK505 Better than LightGBM passed warning" in printed
    assert "training.tuning_trials 3 –" in printed


def test_page_shows_metrics_with_gains_curves_and_differences(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(capsys)
    assert found["page"] == "reports/diabetes/comparison.html"
    assert found["metrics"][0]["gain"]["value"] == pytest.approx(found["gain"]["value"])
    assert call(capsys).splitlines()[-1] == "Page: reports/diabetes/comparison.html"
    page = (paths.find_reports_dir("diabetes") / "comparison.html").read_text(encoding="utf-8")
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    started = found["first"]["started"]
    assert f"{runs['last']} @last, {started[:10]} {started[11:16]} UTC" in text
    assert "gain of the first first second" in text
    for words in ("Residuals.", "Calibration.", "gain of the first", "LK505", "training.tuning_trials", runs["last"]):
        assert words in page
    assert page.count('<svg viewBox="0 0 420 300"') == 2
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=.https?:", page)


def test_change_since_the_last_run_is_described_while_a_run_is_under_way(runs: dict[str, str]) -> None:
    before = {"run": "the one before"}
    assert describe_last_change(load_params("diabetes"), before) == before, "nothing was stale: no run is under way"
    apply_overrides("diabetes", ["training.tuning_trials=9"])
    write_artifacts(20.0, status="warning")
    (paths.find_data_dir("diabetes") / "raw" / "patients.csv").write_text("age\n2\n")
    with suppress(StageError), open_run_here():
        found = describe_last_change(load_params("diabetes"), before)
        # The others are still compared with the run before.
        raise StageError("stopped")
    apply_overrides("diabetes", ["training.tuning_trials=3"])
    facts = dict(found["facts"])
    assert found["run"] == runs["last"]
    assert facts["parameters"] == "training.tuning_trials 3 → 9"
    assert (facts["data"], facts["code"]) == ("different", "the same")
    assert facts["result"].startswith(
        "holdout mae 10.0 [9.0, 11.0] → 20.0 [19.0, 21.0]; on the same 60 rows worse than "
    )
    changed = ["LK505 Better than LightGBM passed → warning", "LK902 Precise explanations passed → warning"]
    assert facts["checks"] == "; ".join(changed)


def test_versions_that_were_champion_have_their_metric(runs: dict[str, str]) -> None:
    params = load_params("diabetes")
    assert list_champion_versions(params) == [{"version": 1, "value": 20.0, "low": 19.0, "high": 21.0}]
    assert list_champion_versions(load_params("flights")) == []


def test_run_is_not_compared_with_itself(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    printed = call(capsys, "@champion")
    assert "both are the same run: name another of `labkit runs diabetes`" in printed
    assert "holdout" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diabetes", "{last}x"], "labkit: no run '{last}x': did you mean '{last}'?; `labkit runs` lists them\n"),
        (["diabetic"], "labkit: no experiment 'diabetic' in params/: did you mean 'diabetes'?\n"),
        (
            ["flights", "{last}"],
            "labkit: no run '{last}': flights has not run in this checkout yet: labkit run flights\n",
        ),
        (["flights"], "labkit: flights: no finished run in this checkout yet: labkit run flights\n"),
        (
            ["flights", "@champion"],
            "labkit: flights: nothing is published yet, so there is no @champion: name a run that `labkit runs flights` "
            "lists\n",
        ),
    ],
)
def test_unknown_run_is_one_message(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main.call(main.cli, ["compare", *(word.format(**runs) for word in words)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", message.format(**runs))


@pytest.mark.parametrize(
    ("labels", "positive", "code_of_interest"), [([0, 1], 0, 0), ([False, True], None, 1), (["no", "yes"], "no", 0)]
)
def test_classes_are_restored_from_the_names_of_columns(
    labels: list[Any], positive: Any, code_of_interest: int
) -> None:
    proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    table = pd.DataFrame({"true": [labels[0], labels[1], labels[1]], "prediction": [labels[0], labels[1], labels[0]]})
    for code, label in enumerate(labels):
        table[f"probability_{label}"] = proba[:, code]
    found = prediction_comparison.restore_predictions(
        table, Target(column="y", task="classification", positive=positive)
    )
    assert found.y_true.tolist() == [0, 1, 1]
    assert found.y_pred.tolist() == [0, 1, 0]
    assert found.y_proba.tolist() == proba.tolist()
    assert found.positive == code_of_interest
