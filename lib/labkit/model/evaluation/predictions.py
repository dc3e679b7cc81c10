"""True values beside what a model predicts for the same rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.params.tables import Target


@dataclass(frozen=True)
class Answers:
    """True answers and predictions of the same rows.

    Attributes
    ----------
    truth
        Shape (n_rows,): numbers, or codes 0..k-1 of `classes`.
    prediction
        Regression: shape (n_rows,), in the target's unit. Classification: probabilities, shape (n_rows, n_classes).
    classes
        Labels in the order of the codes; empty for regression.
    positive
        Code of the class of interest of a two-class target.
    """

    truth: np.ndarray
    prediction: np.ndarray
    classes: tuple[Any, ...] = ()
    positive: int = 1

    def take(self, rows: np.ndarray) -> "Answers":
        """Return the answers of some rows."""
        return Answers(self.truth[rows], self.prediction[rows], self.classes, self.positive)


def make_answers(truth: Any, model: Any, features: Any, target: Target) -> Answers:
    """Let a fitted model predict rows and hold its predictions beside the truth.

    A class that the model was never shown comes after those it knows, with a probability of 0 in every row: rows of it
    count as mistakes, as they would in service.

    Parameters
    ----------
    truth
        The target's values, shape (n_rows,).
    model
        A fitted estimator or pipeline.
    features
        What the model takes, n_rows of it.
    """
    if target.task == "regression":
        return Answers(np.asarray(truth, dtype="float64"), np.asarray(model.predict(features), dtype="float64"))
    known, labels = model.classes_.tolist(), np.asarray(truth).tolist()
    classes = (*known, *sorted({*labels} - {*known}, key=str))
    codes = {label: code for code, label in enumerate(classes)}
    predicted = np.asarray(model.predict_proba(features), dtype="float64")
    return Answers(
        np.array([codes[label] for label in labels]),
        np.pad(predicted, ((0, 0), (0, len(classes) - len(known)))),
        classes,
        find_positive(classes, target),
    )


def find_positive(classes: tuple[Any, ...], target: Target) -> int:
    """Return the code of the class of interest: the declared one, or the last."""
    return classes.index(target.positive) if target.positive in classes else len(classes) - 1
