"""Rows whose explanation shows most: a typical one, the most certain ones, one near the threshold, the extremes."""

from dataclasses import dataclass

import numpy as np

from labkit.model.evaluation.gate_limits import apply_threshold
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.threshold import HALF
from labkit.params.subject import GENERIC, Subject


@dataclass(frozen=True)
class TellingRow:
    """A row and why it is shown.

    Attributes
    ----------
    title
        What it is an example of.
    place
        Its place among the rows.
    """

    title: str
    place: int


def find_telling_rows(
    predictions: Predictions, threshold: float | None = None, subject: Subject = GENERIC
) -> list[TellingRow]:
    """Return rows whose explanation is worth reading, each once.

    Parameters
    ----------
    threshold
        Probability of the class of interest from which it is predicted; None if none was chosen. It decides which
        predictions of two classes are right, and the most certain ones are those farthest from it.

    Returns
    -------
    list of TellingRow
        Of two classes: the median prediction, the most certain right ones of the class of interest and of the other
        class, the most certain wrong one, and the one nearest to the threshold. Of more classes: the median
        certainty, the most certain right and wrong ones, and the one with the closest choice. Of numbers: the median,
        highest and lowest predictions and the largest error. Those that there are not are left out.
    """
    found = find_of_classes(predictions, threshold, subject) if predictions.classes else find_of_numbers(predictions)
    kept: dict[int, str] = {}
    for title, place in found.items():
        kept.setdefault(place, title)
    return [TellingRow(title, place) for place, title in kept.items()]


def find_of_classes(predictions: Predictions, threshold: float | None, subject: Subject = GENERIC) -> dict[str, int]:
    """Return the telling rows of classes by title."""
    predictions = apply_threshold(predictions, threshold)
    proba, n_classes, limit = predictions.y_proba, len(predictions.classes), HALF if threshold is None else threshold
    is_right = predictions.y_pred == predictions.y_true
    of_interest = proba[:, predictions.positive] if n_classes == 2 else proba.max(axis=1)
    certainty = np.abs(of_interest - limit) if n_classes == 2 else of_interest
    middle = find_closest_place(of_interest, float(np.median(of_interest)))
    found = {"Median prediction" if n_classes == 2 else "Median certainty": middle}
    if n_classes == 2:
        is_positive = predictions.y_pred == predictions.positive
        one, other = (
            subject.name_class(predictions.classes[n]) for n in (predictions.positive, 1 - predictions.positive)
        )
        sets = {
            f"Most certain and right: {one}": is_right & is_positive,
            f"Most certain and right: {other}": is_right & ~is_positive,
        }
    else:
        sets = {"Most certain and right": is_right}
    for title, is_candidate in (sets | {"Most certain and wrong": ~is_right}).items():
        if is_candidate.any():
            found[title] = int(np.where(is_candidate, certainty, -np.inf).argmax())
    if n_classes == 2:
        found["Nearest to the threshold"] = find_closest_place(of_interest, limit)
    elif n_classes > 2:
        first, second = np.sort(proba, axis=1)[:, [-1, -2]].T
        found["Closest choice between two classes"] = int((first - second).argmin())
    return found


def find_of_numbers(predictions: Predictions) -> dict[str, int]:
    """Return the telling rows of numbers by title."""
    predicted = predictions.y_pred
    return {
        "Median prediction": find_closest_place(predicted, float(np.median(predicted))),
        "Highest prediction": int(predicted.argmax()),
        "Lowest prediction": int(predicted.argmin()),
        "Largest error": int(np.abs(predicted - predictions.y_true).argmax()),
    }


def find_closest_place(values: np.ndarray, value: float) -> int:
    """Return the place of the first of the values that are nearest to a value.

    >>> find_closest_place(np.array([0.1, 0.4, 0.6]), 0.5)
    1
    """
    return int(np.abs(values - value).argmin())
