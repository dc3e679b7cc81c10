"""Refitting on all rows: the change of predictions is measured on rows that neither model has seen."""

import numpy as np
import pytest
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.refit_stability import check_refit, describe_refit, list_halves, measure_change
from labkit.params.experiment import Deploy

TRUE = np.array([0, 1, 1, 0])


def classes(*probabilities: float) -> Predictions:
    y_proba = np.array([[1 - one, one] for one in probabilities])
    return Predictions.from_proba(TRUE[: len(probabilities)], y_proba, ("no", "yes"))


def numbers(*values: float) -> Predictions:
    return Predictions(np.array([1.0, 3.0, 1.0, 3.0])[: len(values)], np.array(values))


def test_change_of_probabilities_and_of_classes_at_the_threshold_in_force() -> None:
    pair = classes(0.2, 0.6, 0.9, 0.45), classes(0.3, 0.4, 0.9, 0.25)
    assert measure_change([pair], threshold=None) == {"difference": 0.125, "scaled": 0.125, "changes": 0.25}
    assert measure_change([pair], threshold=0.35)["changes"] == 0.25
    assert measure_change([pair], threshold=0.42)["changes"] == 0.5


def test_change_of_more_classes_is_half_the_sum_over_them() -> None:
    one, other = ([[0.5, 0.3, 0.2]], [[0.2, 0.3, 0.5]])
    pair = [Predictions.from_proba(np.array([0]), np.array(proba), ("a", "b", "c")) for proba in (one, other)]
    assert measure_change([(pair[0], pair[1])], threshold=None) == {"difference": 0.3, "scaled": 0.3, "changes": 1.0}


def test_change_of_numbers_is_in_standard_deviations_of_the_true_values() -> None:
    halves = [(numbers(1.0, 2.0), numbers(1.5, 2.5)), (numbers(1.0, 2.0), numbers(1.0, 3.0))]
    assert measure_change(halves, threshold=None) == {"difference": 0.5, "scaled": 0.5}
    twice = [(Predictions(one.y_true * 2, one.y_pred), other) for one, other in halves]
    assert measure_change(twice, threshold=None) == {"difference": 0.5, "scaled": 0.25}


def test_halves_are_of_days_in_order_of_other_blocks_at_random_and_no_block_is_divided() -> None:
    days = Blocks(np.repeat(np.arange(5), 2), "day")
    (learned, predicted), (back, _) = list_halves(days, seed=0)
    assert (learned.tolist(), predicted.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])
    np.testing.assert_array_equal(back, predicted)
    (rows, others), _ = list_halves(make_rows(100), seed=0)
    assert sorted([*rows, *others]) == list(range(100))
    assert 15 < sum(rows < 50) < 35
    groups = Blocks(np.arange(60) % 7, "patient")
    (first, second), _ = list_halves(groups, seed=1)
    assert not {*groups.codes[first]} & {*groups.codes[second]}
    assert list(list_halves(Blocks(np.zeros(9, int), "day"), seed=0)) == []


def describe(change: float, *, is_single: bool = False) -> dict[str, object]:
    pair = classes(0.2, 0.6, 0.9, 0.4), classes(0.2 + change, 0.6 + change, 0.9, 0.4)
    return describe_refit(30, 34, unseen=[] if is_single else [pair], seen=pair, threshold=None)


@pytest.mark.parametrize(
    ("change", "limits", "warning"),
    [
        (0.1, {}, ""),
        (0.1, {"refit_difference": 0.04}, "refitted model predicts differently"),
        (-0.15, {}, "refitted model predicts differently"),
        (-0.15, {"refit_changes": 0.25}, ""),
    ],
)
def test_limits_decide_whether_a_change_is_a_warning(change: float, limits: dict[str, float], warning: str) -> None:
    found = check_refit(describe(change), Deploy(**limits))
    assert (found.passed, found.warning) == (True, warning)


def test_evidence_names_both_measurements() -> None:
    assert check_refit(describe(0.1), Deploy()).evidence == (
        "on 4 holdout rows, each half predicted after fitting on the other half too, predictions differ by 0.05 on "
        "average, and in class for 0 % of the rows; at most 0.1 and 10 % are accepted; those of the published model, "
        "which has learned from these rows, by 0.05 on average, and in class for 0 % of the rows"
    )
    alone = check_refit(describe(0.4, is_single=True), Deploy())
    assert alone.warning == ""
    assert alone.evidence.startswith("the holdout is a single block, so the change for new rows is not known; ")
