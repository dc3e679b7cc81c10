"""Metrics: how good predictions are.

Not how sure one can be of it, nor whether that is good enough: see `labkit.model.evaluation.bootstrap` and
`labkit.model.evaluation.gate`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from labkit.model.evaluation.predictions import Predictions

SMALLEST_PROBABILITY = 1e-6
"""Losses of single rows are limited, so that one row that was thought impossible does not decide alone."""
GREATER_IS_BETTER = {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "r2"}


Score = Callable[[np.ndarray], float]
"""A figure as a function of how often each row counts, whole numbers of shape (n_rows,)."""


def compute_metric(name: str, predictions: Predictions) -> float:
    """Compute one figure.

    With more than two classes, areas are averaged one against the rest, each class alike, and F1 likewise; classes
    that do not occur in the truth are left out of the average.

    Raises
    ------
    KeyError
        The figure is not one of `labkit.params`.
    """
    return make_score(name, predictions)(np.ones(len(predictions.y_true), dtype=np.int64))


def make_score(name: str, predictions: Predictions) -> Score:
    """Return a function that computes one figure of the same rows under any weights.

    A bootstrap draw is the rows weighted by how often each was drawn. What does not depend on the weights, such as
    the order of the predictions, is computed once here; that makes a thousand draws of 60,000 rows affordable.
    """
    return (CLASSIFICATION if predictions.classes else REGRESSION)[name](predictions)


def compute_losses(predictions: Predictions) -> np.ndarray:
    """Return each row's loss, shape (n_rows,): the absolute error, or the log loss, at most 13.8."""
    if not predictions.classes:
        return np.abs(predictions.y_true - predictions.y_pred)
    probabilities = predictions.y_proba[np.arange(len(predictions.y_true)), predictions.y_true]
    return -np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))


def divide(part: Any, whole: Any) -> Any:
    """Divide, with 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) != 0)


def make_mean_score(values: np.ndarray) -> Score:
    """Return the mean of one number per row, shape (n_rows,)."""
    return lambda weights: float((weights * values).sum() / weights.sum())


def make_area_score(predictions: Predictions, compute: Callable[[np.ndarray, np.ndarray], float]) -> Score:
    """Return an area under a curve, of the class of interest or averaged over the classes that occur.

    Parameters
    ----------
    compute
        From the weights of hits and of misses at each distinct prediction, largest prediction first.
    """
    curves = []
    for code in [predictions.positive] if len(predictions.classes) == 2 else range(len(predictions.classes)):
        y_proba = predictions.y_proba[:, code]
        order = np.argsort(-y_proba, kind="stable")
        starts = np.flatnonzero(np.diff(y_proba[order], prepend=np.nan) != 0)
        curves.append((order, starts, predictions.y_true[order] == code))

    def score(weights: np.ndarray) -> float:
        areas = []
        for order, starts, is_hit in curves:
            ordered = weights[order]
            hits = np.add.reduceat(ordered * is_hit, starts)
            misses = np.add.reduceat(ordered, starts) - hits
            if len(curves) == 1 or hits.any():
                areas.append(compute(hits, misses) if hits.any() and misses.any() else np.nan)
        return float(np.mean(areas))

    return score


def compute_roc_area(hits: np.ndarray, misses: np.ndarray) -> float:
    """Compute the chance that a hit ranks above a miss, ties counted half."""
    below = misses.sum() - np.cumsum(misses)
    return float((hits * (below + misses / 2)).sum() / (hits.sum() * misses.sum()))


def compute_average_precision(hits: np.ndarray, misses: np.ndarray) -> float:
    """Compute precision at each distinct prediction, averaged over the hits found there."""
    found = np.cumsum(hits)
    return float((hits * divide(found, found + np.cumsum(misses))).sum() / hits.sum())


def make_log_loss_score(predictions: Predictions) -> Score:
    """Return the mean of minus the logarithm of the chance given to the true class."""
    smallest = np.finfo("float64").eps
    probabilities = predictions.y_proba[np.arange(len(predictions.y_true)), predictions.y_true]
    return make_mean_score(-np.log(np.clip(probabilities, smallest, 1 - smallest)))


def make_count_score(
    predictions: Predictions, compute: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], *, is_one: bool
) -> Score:
    """Return a figure per class, of the class of interest or averaged over the classes that occur.

    Parameters
    ----------
    compute
        From the counts per class of rows right, rows truly in it and rows said to be in it.
    is_one
        Whether only the class of interest of a two-class target counts.
    """
    n_classes = len(predictions.classes)
    is_right = predictions.y_pred == predictions.y_true

    def score(weights: np.ndarray) -> float:
        true = np.bincount(predictions.y_true, weights, n_classes)
        right = np.bincount(predictions.y_true, weights * is_right, n_classes)
        figures = compute(right, true, np.bincount(predictions.y_pred, weights, n_classes))
        return float(figures[predictions.positive] if is_one else figures[true > 0].mean())

    return score


def make_r2_score(predictions: Predictions) -> Score:
    """Return the share of variance explained; without variance 1 if all is right, else 0."""
    squares = (predictions.y_true - predictions.y_pred) ** 2

    def score(weights: np.ndarray) -> float:
        centre = (weights * predictions.y_true).sum() / weights.sum()
        total = (weights * (predictions.y_true - centre) ** 2).sum()
        rest = (weights * squares).sum()
        return float(1 - rest / total) if total > 0 else float(rest == 0)

    return score


def make_median_score(values: np.ndarray) -> Score:
    """Return the median of one number per row, shape (n_rows,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def score(weights: np.ndarray) -> float:
        ends = np.cumsum(weights[order])
        middle = np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")
        return float(ordered[middle].mean())

    return score


def make_rmse_score(predictions: Predictions) -> Score:
    """Return the root of the mean squared error."""
    mean = make_mean_score((predictions.y_true - predictions.y_pred) ** 2)
    return lambda weights: mean(weights) ** 0.5


CLASSIFICATION: dict[str, Callable[[Predictions], Score]] = {
    "roc_auc": lambda p: make_area_score(p, compute_roc_area),
    "average_precision": lambda p: make_area_score(p, compute_average_precision),
    "log_loss": make_log_loss_score,
    "accuracy": lambda p: make_mean_score(p.y_pred == p.y_true),
    "balanced_accuracy": lambda p: make_count_score(
        p, lambda right, true, predicted: divide(right, true), is_one=False
    ),
    "f1": lambda p: make_count_score(
        p, lambda right, true, predicted: divide(2 * right, true + predicted), is_one=len(p.classes) == 2
    ),
}


REGRESSION: dict[str, Callable[[Predictions], Score]] = {
    "r2": make_r2_score,
    "mae": lambda p: make_mean_score(np.abs(p.y_true - p.y_pred)),
    "rmse": make_rmse_score,
    "median_absolute_error": lambda p: make_median_score(np.abs(p.y_true - p.y_pred)),
}


def list_metrics(predictions: Predictions) -> list[str]:
    """Return the names of the task's metrics."""
    return list(CLASSIFICATION if predictions.classes else REGRESSION)


def compute_metrics(predictions: Predictions) -> dict[str, float]:
    """Compute every metric of the task."""
    return {name: compute_metric(name, predictions) for name in list_metrics(predictions)}


def is_greater_better(name: str) -> bool:
    """Return whether a larger figure is a better one.

    >>> is_greater_better("roc_auc"), is_greater_better("mae")
    (True, False)
    """
    return name in GREATER_IS_BETTER
