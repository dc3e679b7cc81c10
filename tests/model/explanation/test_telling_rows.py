"""Rows that are explained by themselves: typical, certain, wrong, near the threshold."""

from typing import Any

import numpy as np
import pytest
from labkit.model.evaluation.predictions import Predictions
from labkit.model.explanation.telling_rows import find_telling_rows
from labkit.params.subject import Subject

Y_TRUE = np.array([0, 1, 1, 0, 1, 0, 0])
P_YES = np.array([0.05, 0.9, 0.2, 0.55, 0.6, 0.31, 0.32])
TWO = Predictions.from_proba(Y_TRUE, np.column_stack([1 - P_YES, P_YES]), ("no", "yes"), 1)


def find(predictions: Predictions, threshold: float | None = None) -> dict[str, Any]:
    return {one.title: one.place for one in find_telling_rows(predictions, threshold)}


def test_of_two_classes() -> None:
    assert find(TWO, 0.3) == {
        "Median prediction": 6,
        "Most certain and right: yes": 1,
        "Most certain and right: no": 0,
        "Most certain and wrong": 3,
        "Nearest to the threshold": 5,
    }


def test_without_a_threshold_the_most_probable_class_is_predicted() -> None:
    found = find(TWO)
    assert (found["Most certain and wrong"], found["Nearest to the threshold"]) == (2, 3)


def test_right_and_wrong_are_those_at_the_threshold_in_force() -> None:
    assert find(TWO, 0.6) == {
        "Median prediction": 6,
        "Most certain and right: yes": 1,
        "Most certain and right: no": 0,
        "Most certain and wrong": 2,
        "Nearest to the threshold": 4,
    }
    low = find(TWO, 0.04)
    assert "Most certain and right: no" not in low, "all rows are predicted to be of the class"
    assert (low["Most certain and right: yes"], low["Most certain and wrong"]) == (1, 3)


def test_titles_name_classes_as_readers_call_them() -> None:
    found = [one.title for one in find_telling_rows(TWO, 0.3, Subject("", labels={"yes": "late"}))]
    assert "Most certain and right: late" in found
    assert "Most certain and right: no" in found


def test_threshold_of_the_first_class() -> None:
    mirrored = Predictions.from_proba(1 - Y_TRUE, np.column_stack([P_YES, 1 - P_YES]), ("yes", "no"), 0)
    assert find(mirrored, 0.3) == find(TWO, 0.3)


def test_each_row_is_shown_once_and_what_there_is_not_is_left_out() -> None:
    right = Predictions.from_proba(np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]]), ("no", "yes"), 1)
    found = find_telling_rows(right)
    assert sorted(one.place for one in found) == [0, 1]
    assert not [one for one in found if "wrong" in one.title or one.title == "Most certain and right: yes"]


def test_of_more_classes() -> None:
    proba = np.array([[0.8, 0.1, 0.1], [0.4, 0.39, 0.21], [0.1, 0.7, 0.2], [0.05, 0.05, 0.9], [0.2, 0.2, 0.6]])
    found = find(Predictions.from_proba(np.array([0, 0, 0, 2, 2]), proba, ("a", "b", "c")))
    assert found == {
        "Median certainty": 2,
        "Most certain and right": 3,
        "Closest choice between two classes": 1,
    }, "the most certain wrong one is the median one"


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_of_numbers(scale: float) -> None:
    predicted = np.array([3.0, -1.0, 2.0, 9.0, 2.5])
    found = find(Predictions(scale * np.array([3.0, -1.0, 20.0, 9.5, 2.5]), scale * predicted))
    assert found == {"Median prediction": 4, "Highest prediction": 3, "Lowest prediction": 1, "Largest error": 2}


def test_one_class_has_a_typical_row() -> None:
    assert find(Predictions.from_proba(np.zeros(3, int), np.ones((3, 1)), ("a",))) == {"Median certainty": 0}
