"""The result of an experiment is read from what its stages wrote, now or with an earlier version."""

import json
from pathlib import Path

import pytest
from labkit.artifacts import PLACES
from labkit.checks import CheckResult
from labkit.params.override import apply_overrides
from labkit.run.records.stage_record import StageRecord, save_record
from labkit.stages.result import find_result, list_checks_of_pages
from labkit.storage.atomic import write_json

EVALUATION = {
    "metric": "mae",
    "holdout": {"mae": {"value": 41.3911, "low": 35.38, "high": 47.863}},
    "dummy": {"mae": 64.17},
}


@pytest.mark.parametrize("place", ["evaluation", "metrics"])
def test_result_shows_the_metric_with_the_digits_that_are_certain(checkout: Path, place: str) -> None:
    """Earlier versions kept the whole evaluation in metrics.json."""
    write_json(checkout / "data" / "diabetes" / PLACES[place], EVALUATION)
    pages = checkout / "reports" / "diabetes"
    pages.mkdir(parents=True, exist_ok=True)
    decision = {"decision": "published", "version": 2, "headline": "version 2 is now the champion", "reasons": []}
    (pages / "publish.json").write_text(json.dumps(decision))
    expected = "diabetes v2 published: holdout mae 41.4 [35.4, 47.9], dummy 64.2 → reports/diabetes/publish.html"
    assert str(find_result("diabetes")) == expected
    decision |= {"decision": "already champion", "headline": "version 2 is already the champion"}
    (pages / "publish.json").write_text(json.dumps(decision))
    assert str(find_result("diabetes")) == expected.replace("published:", "is already the champion:")


def test_checks_of_a_run_are_those_of_its_pages_and_of_the_decision_as_muted_now(checkout: Path) -> None:
    pages = checkout / "reports" / "diabetes"
    (pages / "sample").mkdir(parents=True)
    drift, gain = CheckResult("LK205", "warning", "a (PSI 0.40)"), CheckResult("LK603", "issue", "worse")
    record = StageRecord(
        "wrangling", "02_wrangling", "Wrangling", "finished", "", 1.0, "", None, checks=[drift.to_dict()]
    )
    for folder in (pages, pages / "sample"):
        save_record(record, folder)
    (pages / "publish.json").write_text(json.dumps({"scorecard": {"checks": [gain.to_dict()]}}))
    assert [(one["code"], one["status"]) for one in list_checks_of_pages("diabetes")] == [
        ("LK603", "issue"),
        ("LK205", "warning"),
    ]
    apply_overrides("diabetes", ["checks.mute.LK205=prices rose"])
    (muted,) = list_checks_of_pages("diabetes", is_sample=True)
    assert (muted["status"], muted["evidence"]) == ("muted", "a (PSI 0.40); muted: prices rose")
