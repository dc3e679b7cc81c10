"""The gate's decisions and how it words them."""

import json
from math import nan

import numpy as np
import pytest
from labkit.errors import DataError
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.gate import (
    Check,
    Decision,
    check_champion,
    check_classes,
    check_days,
    check_dummy,
    check_parity,
    check_release_size,
    check_too_good,
    describe_paired,
)
from labkit.model.evaluation.metrics import is_greater_better
from labkit.model.evaluation.predictions import Predictions
from labkit.params.evaluation import Gate

SURE = {"confidence": 0.95, "blocks": make_rows(110)}


@pytest.mark.parametrize(
    ("low", "minimum", "passed"),
    [
        (0.01, 0.0, True),
        (0.0, 0.0, False),
        (-0.01, 0.0, False),
        (0.1, 0.1, False),
        (0.11, 0.1, True),
        (nan, 0.0, False),
    ],
)
def test_better_than_the_best_constant(low: float, minimum: float, passed: bool) -> None:
    gate = Gate(minimum_gain=minimum)
    check = check_dummy("mae", Interval(0.2, low, 0.3), gate, **SURE, n_classes=0)  # type: ignore[arg-type]
    assert check.passed is passed


@pytest.mark.parametrize(
    ("low", "tolerance", "passed"),
    [(0.0, 0.0, True), (-0.01, 0.0, False), (-0.01, 0.01, True), (-0.02, 0.01, False), (nan, 0.5, False)],
)
def test_not_worse_than_the_champion(low: float, tolerance: float, passed: bool) -> None:
    gate = Gate(champion_tolerance=tolerance)
    gain = Interval(0.2, low, 0.3)
    assert check_champion("r2", gain, gate, **SURE, champion="version 3").passed is passed  # type: ignore[arg-type]


def test_evidence_is_worded_for_people() -> None:
    gain = Interval(12.3456, 1.2, 20)
    assert check_dummy("mae", gain, Gate(), **SURE, n_classes=0) == Check(  # type: ignore[arg-type]
        "better than the dummy",
        True,
        "mae reduction of 12.3 (95 % interval 1.2 to 20.0, resampling 110 rows) over always predicting the median; the "
        "lower end is above 0",
    )
    days = {"confidence": 0.9, "blocks": Blocks(np.arange(61), "day", 2)}
    assert check_champion("r2", Interval(-0.1, -0.2, 0), Gate(), **days, champion="version 3").evidence == (  # type: ignore[arg-type]
        "r2 gain of -0.10 (90 % interval -0.20 to 0.00, resampling 61 days, in runs of 2) over version 3; the lower end is "
        "beyond the accepted loss of 0"
    )
    nothing = Interval(0.5, nan, nan)
    assert "r2 gain of 0.5, without an interval" in check_champion("r2", nothing, Gate(), **SURE, champion="v").evidence  # type: ignore[arg-type]
    assert describe_paired("r2", "dummy", nothing, 0.95) == (
        "0.5 better than dummy in r2, without an interval: too few independent rows"
    )


def test_model_that_predicts_the_same_as_the_champion_is_described_so() -> None:
    ours = Predictions.from_proba(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]), ("no", "yes"))
    theirs = Predictions.from_proba(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), ("no", "yes"))
    assert ours.equals(ours.take(np.arange(2)))
    assert not ours.equals(theirs), "the same classes, other probabilities"
    same = check_champion("r2", Interval(0, 0, 0), Gate(), **SURE, champion="version 1", is_same=True)  # type: ignore[arg-type]
    assert str(same) == "✓ not worse than the champion: predicts the same as version 1 on every holdout row"


@pytest.mark.parametrize(
    ("n_days", "fewest", "passed"), [(28, 28, True), (27, 28, False), (27, 14, True), (1, 2, False)]
)
def test_too_few_days_cannot_be_judged_by_however_many_rows_they_hold(n_days: int, fewest: int, passed: bool) -> None:
    blocks = Blocks(np.repeat(np.arange(n_days), 1000), "day")
    [check] = check_days(blocks, Gate(fewest_days=fewest))
    assert check.passed is passed
    assert f"rows of {n_days} days, {fewest} are required" in check.evidence
    assert ("evaluation.gate.fewest_days" in check.evidence) is not passed
    assert check_days(make_rows(20), Gate()) == [], "a check that does not apply is not shown as passed"


@pytest.mark.parametrize(
    ("metric", "value", "dummy", "warns"),
    [
        ("roc_auc", 0.9976, 0.5, True),
        ("roc_auc", 0.997, 0.5, False),
        ("mae", 0.006, 2.0, True),
        ("mae", 0.00621, 0.454, True),
        ("mae", 0.1, 2.0, True),
        ("rmse", 0.2, 2.0, False),
        ("mae", 2.1, 2.0, False),
        ("accuracy", 0.995, 0.99, False),
        ("accuracy", 1.0, 0.99, True),
        ("r2", 0.9999, -0.01, True),
        ("roc_auc", nan, 0.5, False),
        ("mae", 0.0, 0.0, False),
    ],
)
def test_nearly_perfect_result_is_marked_with_what_it_relies_on(
    metric: str, value: float, dummy: float, warns: bool
) -> None:
    check = check_too_good(
        metric, value, dummy, perfect=float(is_greater_better(metric)), relies_on=["a", "b", "c", "d"]
    )
    assert check.passed
    assert (check.warning == "nearly perfect, look for a leak in 'a'") is warns
    assert ("relies most on `a`, `b`, `c`" in check.evidence) is warns
    assert str(check).startswith("⚠" if warns else "✓")


def test_plausible_result_is_shown_between_the_constant_and_the_perfect_prediction() -> None:
    check = check_too_good("roc_auc", 0.694, 0.5, perfect=1.0, relies_on=[])
    assert check.evidence == "roc_auc is 0.694; the dummy has 0.5, and 1 would be perfect"


def test_nearly_perfect_result_without_an_important_column_is_marked() -> None:
    assert check_too_good("roc_auc", 1.0, 0.5, perfect=1.0, relies_on=[]).warning == "nearly perfect, look for a leak"


@pytest.mark.parametrize(
    ("rows", "difference", "reason", "passed", "words"),
    [
        (1000, 2e-7, "", True, "on 1,000 rows the ONNX graph differs from the pipeline by at most 2e-07, within"),
        (1000, 1e-5, "", True, "within the accepted 1e-05"),
        (1000, 2e-5, "", False, "beyond the accepted 1e-05"),
        (1000, nan, "", False, "beyond the accepted 1e-05"),
        (0, None, "", False, "was not compared with the pipeline on any row"),
        (9, None, "Stump does not convert", True, "no ONNX graph (Stump does not convert), so the scikit-learn"),
    ],
)
def test_graph_passes_with_proof_and_no_graph_with_a_reason(
    rows: int, difference: float | None, reason: str, passed: bool, words: str
) -> None:
    check = check_parity({"rows": rows, "largest_difference": difference, "tolerance": 1e-5, "reason": reason})
    assert check.passed is passed
    assert words in check.evidence


def test_decision_needs_every_check_and_survives_json() -> None:
    good, bad, odd = Check("a", True, "x"), Check("b", False, "y"), Check("c", True, "z", warning="look")
    assert Decision((good, odd)).passed
    assert not Decision((good, bad)).passed
    assert not Decision(()).passed
    assert Decision((good, bad, odd)).list_concerns() == ["failed check: b", "look"]
    assert Decision.from_dict(json.loads(json.dumps(Decision((good, bad)).to_dict()))) == Decision((good, bad))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"passed": True, "checks": []},
        {"passed": True, "checks": [{"name": "a", "passed": False, "evidence": "x"}]},
        {"passed": True, "checks": [{"name": "a"}]},
        {"passed": True, "checks": None},
    ],
)
def test_decision_that_cannot_be_read_or_contradicts_itself_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(DataError, match="the gate's decision"):
        Decision.from_dict(content)


def test_classes_that_only_one_of_training_and_holdout_has_are_named() -> None:
    same = check_classes({"a", "b"}, {"b", "a"})
    assert (same.passed, same.warning) == (True, "")
    assert same.evidence == "the holdout has rows of each of the 2 classes that the model predicts"
    check = check_classes({"a", "b"}, {"a", "f", "g"})
    assert check.passed
    assert check.warning == "classes that training lacks"
    assert check.evidence == (
        "only in the holdout, so the model cannot predict them: f; g, "
        "and learned, but without a row in the holdout to evaluate them: b"
    )
    check = check_classes({1, 2}, {1})
    assert (check.warning, check.evidence.endswith("evaluate them: 2")) == ("classes that the holdout lacks", True)


def test_release_that_is_too_large_is_refused_with_the_part_that_makes_it_large() -> None:
    files, gate = {"model.skops": 2_000_000, "model.onnx": 500_000}, Gate(most_bytes=2_499_999)
    assert check_release_size(files, Gate(most_bytes=2_500_000)).passed
    check = check_release_size(files, gate)
    assert not check.passed
    assert check.evidence == (
        "2.5 MB (2,500,000 bytes) in 2 files, 2.0 MB (2,000,000 bytes) of it model.skops; at most 2.5 MB (2,499,999 "
        "bytes) are allowed: leave the largest models out of `training.models` (a blend holds all its members; the "
        "model card lists the parts), or raise `evaluation.gate.most_bytes`"
    )


def test_decision_with_the_check_names_of_earlier_releases_is_read() -> None:
    check = {"name": "serves the answers that were judged", "passed": True, "evidence": "within 1e-05", "warning": ""}
    decision = Decision.from_dict({"passed": True, "checks": [check]})
    assert decision.passed
    assert str(decision.checks[0]) == "✓ serves the answers that were judged: within 1e-05"
