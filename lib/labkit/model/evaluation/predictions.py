"""True values and predictions of the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from labkit.errors import ModelError
from labkit.params.tables import Target, find_positive


@dataclass(frozen=True)
class Predictions:
    """True values and predictions of the same rows.

    Attributes
    ----------
    y_true
        Shape (n_rows,): numbers, or codes 0..k-1 of `classes`.
    y_pred
        Shape (n_rows,): numbers in the target's unit, or codes of the most probable classes.
    y_proba
        Probabilities, shape (n_rows, n_classes); of shape (0, 0) for regression.
    classes
        Labels in the order of the codes; empty for regression.
    positive
        Code of the class of interest of a two-class target.

    Examples
    --------
    >>> Predictions.from_proba(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), ("no", "yes")).y_pred.tolist()
    [0, 0]
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    y_proba: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    classes: tuple[Any, ...] = ()
    positive: int = 1

    @classmethod
    def from_proba(
        cls, y_true: np.ndarray, y_proba: np.ndarray, classes: tuple[Any, ...], positive: int = 1
    ) -> "Predictions":
        """Return classification predictions from probabilities; among equally probable classes, the first is chosen."""
        return cls(y_true, np.argmax(y_proba, axis=1), y_proba, classes, positive)

    def equals(self, other: "Predictions") -> bool:
        """Return whether another model predicts the same for every row."""
        return self.classes == other.classes and all(
            np.array_equal(ours, theirs)
            for ours, theirs in ((self.y_pred, other.y_pred), (self.y_proba, other.y_proba))
        )

    def take(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions of a subset of rows."""
        y_proba = self.y_proba[rows] if self.classes else self.y_proba
        return Predictions(self.y_true[rows], self.y_pred[rows], y_proba, self.classes, self.positive)

    def decide(self, threshold: float) -> "Predictions":
        """Return the predictions of two classes with the class of interest predicted from a probability on.

        >>> both = Predictions.from_proba(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]), ("no", "yes"))
        >>> both.y_pred.tolist(), both.decide(0.2).y_pred.tolist()
        ([0, 0], [0, 1])
        """
        acts = self.y_proba[:, self.positive] >= threshold
        return replace(self, y_pred=np.where(acts, self.positive, 1 - self.positive))


def compute_predictions(y_true: Any, model: Any, features: Any, target: Target) -> Predictions:
    """Predict rows with a fitted model and return the predictions with their true values.

    Classes that the model has never seen follow those it knows and have a probability of 0 in every row, so their rows
    count as errors, as they would in production.

    Parameters
    ----------
    y_true
        The target's values, shape (n_rows,).
    model
        A fitted estimator or pipeline.
    features
        The model's input, with n_rows rows.

    Raises
    ------
    ModelError
        See `check_output`.
    """
    if target.task == "regression":
        numbers = check_output(model.predict(features), (len(features),))
        return Predictions(np.asarray(y_true, dtype="float64"), numbers.astype("float64"))
    known = model.classes_.tolist()
    output = check_output(model.predict_proba(features), (len(features), len(known))).astype("float64")
    classes = extend_classes(known, np.asarray(y_true).tolist())
    return make_predictions(y_true, align_proba(output, known, classes), classes, target)


def check_output(output: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return what a model predicts as an array.

    Parameters
    ----------
    shape
        That it must have: (n_rows,), of probabilities (n_rows, n_classes).

    Raises
    ------
    ModelError
        It has another shape, is not of numbers, or has missing or infinite values.
    """
    found: np.ndarray = np.asarray(output)
    if found.shape != shape or found.dtype.kind not in "fiu":
        raise ModelError(f"its predictions are {found.dtype} of shape {found.shape}, not numbers of {shape}")
    if not np.isfinite(found).all():
        raise ModelError("some of its predictions are missing or infinite")
    return found


def extend_classes(known: Sequence[Any], *others: Sequence[Any]) -> tuple[Any, ...]:
    """Return the classes that a model knows, followed by the others.

    >>> extend_classes(["no", "yes"], ["yes", "perhaps"], ["maybe"])
    ('no', 'yes', 'maybe', 'perhaps')
    """
    return (*known, *sorted({label for labels in others for label in labels} - {*known}, key=str))


def align_proba(output: np.ndarray, known: Sequence[Any], classes: Sequence[Any]) -> np.ndarray:
    """Return probabilities with a column for each of `classes`; those that a model does not know have probability 0.

    Parameters
    ----------
    output
        Probabilities of the `known` classes, shape (n_rows, n_known).
    """
    aligned = np.zeros((len(output), len(classes)))
    aligned[:, [list(classes).index(label) for label in known]] = output
    return aligned


def make_predictions(y_true: Any, output: np.ndarray, classes: Sequence[Any], target: Target) -> Predictions:
    """Combine the output of a released model with the true values.

    Parameters
    ----------
    y_true
        The target's values, shape (n_rows,).
    output
        Probabilities, shape (n_rows, n_classes), or numbers, shape (n_rows,).
    classes
        Labels in the order of the probability columns; empty for regression.

    Raises
    ------
    ModelError
        A true value is a class that the model does not know.
    """
    if not classes:
        return Predictions(np.asarray(y_true, dtype="float64"), output)
    labels, known = np.asarray(y_true).tolist(), tuple(classes)
    if unknown := sorted(set(labels) - set(known), key=str):
        raise ModelError(f"class {unknown[0]!r} is unknown to the model")
    return Predictions.from_proba(encode_labels(labels, known), output, known, find_positive(known, target.positive))


def encode_labels(labels: Sequence[Any], classes: tuple[Any, ...]) -> np.ndarray:
    """Return the code of each label, shape (n_rows,)."""
    codes = {label: code for code, label in enumerate(classes)}
    return np.array([codes[label] for label in labels])
