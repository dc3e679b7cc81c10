"""What people who decide are shown of an experiment, from what its stages wrote."""

from pathlib import Path
from typing import Any

import pytest
from labkit.artifacts import PLACES
from labkit.checks import CheckResult
from labkit.model.evaluation.gate import Check
from labkit.model.evaluation.main_result import find_unit_of
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.stages.scorecard import make_scorecard
from labkit.storage.atomic import write_json

EVALUATION: dict[str, Any] = {
    "metric": "mae",
    "rows": 110,
    "confidence": 0.95,
    "holdout": {"mae": {"value": 41.3911, "low": 35.38, "high": 47.863}},
    "dummy": {"mae": 64.17},
    "plain_lightgbm": {"mae": 43.6},
    "threshold": {},
    "checks": [CheckResult("LK505", "warning", "not distinguishable").to_dict()],
}
FIRST = {"version": 1, "value": 45.0, "low": 39.0, "high": 50.0}
GATE = [Check("better than the dummy", True, "gain of 23")]


@pytest.fixture
def data(checkout: Path) -> Path:
    data = checkout / "data" / "diabetes"
    write_json(data / PLACES["evaluation"], EVALUATION)
    found = {"split": ("LK205", "a (PSI 0.40)"), "feature_checks": ("LK303", "ratio and s4")}
    for name, (code, evidence) in found.items():
        write_json(data / PLACES[name], {"checks": [CheckResult(code, "warning", evidence).to_dict()]})
    return data


def test_it_holds_question_result_baselines_and_the_checks_of_all_stages(data: Path) -> None:
    card = make_scorecard(load_params("diabetes"), GATE, 2, [FIRST])
    assert card["question"].endswith("?")
    assert card["result"] == "holdout mae 41.4 [35.4, 47.9]"
    assert card["measured_on"] == "110 holdout patients, with 95 % interval"
    assert card["scale"] == "", "of an earlier version of labkit"
    assert card["baselines"] == "dummy (best constant prediction) 64.2, plain LightGBM 43.6"
    assert card["limits"].startswith(
        "Required: a gain over the dummy above 5; against the champion, a loss of at most 1."
    )
    assert card["costs"].startswith("What acting on it saves is not known")
    assert [check["code"] for check in card["checks"]] == ["LK205", "LK303", "LK505", "LK501"]
    assert card["counts"] == "3 warnings, 1 passed"
    assert card["versions"] == [FIRST, {"version": 2, "value": 41.3911, "low": 35.38, "high": 47.863}]
    assert (card["metric"], card["unit"], card["is_greater_better"]) == ("mae", "", False)
    assert card["meaning"] == "mean absolute error, in the target's unit"


def test_differences_between_groups_count_once(data: Path) -> None:
    shown = CheckResult("LK511", "warning", "age differs").to_dict()
    write_json(data / PLACES["evaluation"], EVALUATION | {"checks": [shown]})
    decided = Check("treats groups alike", True, "age differs", warning="age differs")
    counted = [
        [check["code"] for check in make_scorecard(load_params("diabetes"), checks, None, [])["checks"]]
        for checks in (GATE, [*GATE, decided])
    ]
    assert "LK511" in counted[0]
    assert "LK608" in counted[1]
    assert "LK511" not in counted[1]


def test_the_metric_has_the_unit_of_the_target(data: Path) -> None:
    apply_overrides("diabetes", ["data.columns.target={unit: points}"])
    card = make_scorecard(load_params("diabetes"), GATE, 2, [])
    assert card["result"] == "holdout mae 41.4 [35.4, 47.9] points"
    assert card["measured_on"] == "110 holdout patients, with 95 % interval"
    assert card["baselines"] == "dummy (best constant prediction) 64.2 points, plain LightGBM 43.6 points"
    assert find_unit_of("r2", load_params("diabetes")) == ""


def test_a_version_is_listed_once_and_a_refused_one_never(data: Path) -> None:
    params = load_params("diabetes")
    once = make_scorecard(params, GATE, 2, [FIRST])["versions"]
    assert make_scorecard(params, GATE, 2, once)["versions"] == once
    assert make_scorecard(params, GATE, None, once)["versions"] == once
    again = make_scorecard(params, GATE, 1, once)["versions"]
    assert [entry["version"] for entry in again] == [1, 2], "an earlier release may be published again"


def test_a_muted_check_keeps_its_reason(data: Path) -> None:
    apply_overrides("diabetes", ["checks.mute.LK205=prices rose"])
    card = make_scorecard(load_params("diabetes"), GATE, 2, [])
    assert card["counts"] == "2 warnings, 1 passed, 1 muted"
    assert [check["evidence"] for check in card["checks"] if check["status"] == "muted"] == [
        "a (PSI 0.40); muted: prices rose"
    ]


def test_costs_are_compared_with_acting_on_none_and_on_all(data: Path) -> None:
    apply_overrides("breast_cancer", ["evaluation.costs={false_positive: 1, false_negative: 4, unit: EUR}"])
    found = {
        "acted": 0.18, "recall": 0.44, "precision": 0.3, "threshold": 0.224, "always_no": 0.602, "always_yes": 0.849,
        "cost": {"value": 0.493, "low": 0.437, "high": 0.551}, "saving": {"value": 0.109, "low": 0.023, "high": 0.211},
    }  # fmt: skip
    place = data.parent / "breast_cancer" / PLACES["evaluation"]
    write_json(place, {**EVALUATION, "threshold": found})
    card = make_scorecard(load_params("breast_cancer"), GATE, 1, [])
    assert card["costs"] == (
        "Acting from a probability of 0.224 on flags 18 % of the tumours, catches 44 % of the tumours of class `malignant` "
        "and is right in 30 % of the tumours it flags. It costs 0.493 EUR per tumour [0.437, 0.551]; acting on none costs 0.602, on all 0.849. On the holdout this saves 0.109 [0.023, 0.211] EUR per tumour "
        "against the cheaper of the two."
    )
    assert card["savings"] == [
        "Declared costs, in EUR: 1 for a false positive, 4 for a false negative. Where they come from is not stated "
        "(`evaluation.costs.reason`)."
    ]
    found["saving"]["low"] = -0.023
    write_json(place, {**EVALUATION, "threshold": found})
    card = make_scorecard(load_params("breast_cancer"), GATE, 1, [])
    assert "On the holdout this is not shown to save anything: 0.109 [-0.023, 0.211] EUR per tumour" in card["costs"]
    apply_overrides("breast_cancer", ["evaluation.costs=null"])
    card = make_scorecard(load_params("breast_cancer"), GATE, 1, [])
    assert card["costs"] == "What acting on it saves is not known: no costs are declared (`evaluation.costs`)."


def test_without_an_evaluation_only_the_question_is_shown(checkout: Path) -> None:
    assert list(make_scorecard(load_params("diabetes"), GATE, None, [])) == ["question"]


def test_true_values_stand_beside_an_error_in_their_unit(data: Path) -> None:
    values = {"mean": 145.9, "smallest": 37.0, "lower_quarter": 87.2, "median": 128.0, "upper_quarter": 202.0}
    write_json(data / PLACES["evaluation"], EVALUATION | {"true_values": values | {"largest": 310.0}})
    apply_overrides("diabetes", ["data.columns.target={unit: points}"])
    assert make_scorecard(load_params("diabetes"), GATE, 1, [])["scale"] == (
        "The target is `target`, true values 146 points on average, half of them between 87 and 202, all between 37 and 310."
    )
    apply_overrides("diabetes", ["data.columns.target={description: progression}"])
    shown = make_scorecard(load_params("diabetes"), GATE, 1, [])["scale"]
    assert shown.startswith("The target is progression (`target`), true values 146 on average")


def test_the_share_of_the_class_of_interest_stands_beside_the_metric(data: Path) -> None:
    found = EVALUATION | {"true_values": {"share": 0.37, "positive": "malignant"}}
    write_json(data.parent / "breast_cancer" / PLACES["evaluation"], found)
    assert make_scorecard(load_params("breast_cancer"), GATE, 1, [])["measured_on"] == (
        "110 holdout tumours, 37 % of them of class `malignant`, with 95 % interval"
    )
