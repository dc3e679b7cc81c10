"""The gate's decisions and how it words them."""

import json
from math import nan

import pytest
from labkit.model.gate import Check, Decision, check_champion, check_dummy, check_parity
from labkit.model.metrics import Interval
from labkit.params import Gate


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
def test_better_than_the_dummy(low: float, minimum: float, passed: bool) -> None:
    assert check_dummy("mae", Interval(0.2, low, 0.3), Gate(minimum_gain=minimum), confidence=0.95).passed is passed


@pytest.mark.parametrize(
    ("low", "tolerance", "passed"),
    [(0.0, 0.0, True), (-0.01, 0.0, False), (-0.01, 0.01, True), (-0.02, 0.01, False), (nan, 0.5, False)],
)
def test_not_worse_than_the_champion(low: float, tolerance: float, passed: bool) -> None:
    gate = Gate(champion_tolerance=tolerance)
    gain = Interval(0.2, low, 0.3)
    assert check_champion("r2", gain, gate, confidence=0.95, champion="version 3").passed is passed


def test_evidence_is_worded_for_people() -> None:
    gain = Interval(12.3456, 1.2, 20)
    assert check_dummy("mae", gain, Gate(), confidence=0.95) == Check(
        "better than always giving the same answer",
        True,
        "mae reduction of 12.35 (95% interval 1.2 to 20) over the dummy; the lower end lies above the least gain asked "
        "for, 0",
    )
    assert check_champion("r2", Interval(-0.1, -0.2, 0), Gate(), confidence=0.9, champion="version 3").evidence == (
        "r2 gain of -0.1 (90% interval -0.2 to 0) over version 3; the lower end is beyond the accepted loss of 0"
    )


@pytest.mark.parametrize(
    ("rows", "difference", "reason", "passed", "words"),
    [
        (1000, 2e-7, "", True, "on 1,000 rows the ONNX graph differs from the pipeline by at most 2e-07, within"),
        (1000, 1e-5, "", True, "within the accepted 1e-05"),
        (1000, 2e-5, "", False, "beyond the accepted 1e-05"),
        (0, None, "", False, "was not held against the pipeline on any row"),
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
    good, bad = Check("a", True, "x"), Check("b", False, "y")
    assert Decision((good, good)).passed
    assert not Decision((good, bad)).passed
    assert Decision.from_dict(json.loads(json.dumps(Decision((good, bad)).to_dict()))) == Decision((good, bad))
