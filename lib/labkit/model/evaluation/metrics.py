"""Metrics: how good predictions are.

Not how sure one can be of it, nor whether that is good enough: see `labkit.model.evaluation.bootstrap` and
`labkit.model.evaluation.gate`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from labkit.model.evaluation.predictions import Answers

GREATER_IS_BETTER = {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "r2"}


Score = Callable[[np.ndarray], float]
"""A figure as a function of how often each row counts, whole numbers of shape (n_rows,)."""


def compute_metric(name: str, answers: Answers) -> float:
    """Compute one figure.

    With more than two classes, areas are averaged one against the rest, each class alike, and F1 likewise; classes
    that do not occur in the truth are left out of the average.

    Raises
    ------
    KeyError
        The figure is not one of `labkit.params`.
    """
    return make_score(name, answers)(np.ones(len(answers.truth), dtype=np.int64))


def make_score(name: str, answers: Answers) -> Score:
    """Return a function that computes one figure of the same rows under any weights.

    A bootstrap draw is the rows weighted by how often each was drawn. What does not depend on the weights, such as
    the order of the predictions, is computed once here; that makes a thousand draws of 60,000 rows affordable.
    """
    return (CLASSIFICATION if answers.classes else REGRESSION)[name](answers)


def find_labels(answers: Answers) -> np.ndarray:
    """Return the code of the likeliest class of each row, shape (n_rows,)."""
    return np.argmax(answers.prediction, axis=1)


def divide(part: Any, whole: Any) -> Any:
    """Divide, with 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) != 0)


def make_mean_score(values: np.ndarray) -> Score:
    """Return the mean of one number per row, shape (n_rows,)."""
    return lambda weights: float((weights * values).sum() / weights.sum())


def make_area_score(answers: Answers, compute: Callable[[np.ndarray, np.ndarray], float]) -> Score:
    """Return an area under a curve, of the class of interest or averaged over the classes that occur.

    Parameters
    ----------
    compute
        From the weights of hits and of misses at each distinct prediction, largest prediction first.
    """
    curves = []
    for code in [answers.positive] if len(answers.classes) == 2 else range(len(answers.classes)):
        chance = answers.prediction[:, code]
        order = np.argsort(-chance, kind="stable")
        starts = np.flatnonzero(np.diff(chance[order], prepend=np.nan) != 0)
        curves.append((order, starts, answers.truth[order] == code))

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


def make_log_loss_score(answers: Answers) -> Score:
    """Return the mean of minus the logarithm of the chance given to the true class."""
    smallest = np.finfo("float64").eps
    chances = answers.prediction[np.arange(len(answers.truth)), answers.truth]
    return make_mean_score(-np.log(np.clip(chances, smallest, 1 - smallest)))


def make_count_score(
    answers: Answers, compute: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], *, is_one: bool
) -> Score:
    """Return a figure per class, of the class of interest or averaged over the classes that occur.

    Parameters
    ----------
    compute
        From the counts per class of rows right, rows truly in it and rows said to be in it.
    is_one
        Whether only the class of interest of a two-class target counts.
    """
    n_classes, labels = len(answers.classes), find_labels(answers)
    is_right = labels == answers.truth

    def score(weights: np.ndarray) -> float:
        true = np.bincount(answers.truth, weights, n_classes)
        right = np.bincount(answers.truth, weights * is_right, n_classes)
        figures = compute(right, true, np.bincount(labels, weights, n_classes))
        return float(figures[answers.positive] if is_one else figures[true > 0].mean())

    return score


def make_r2_score(answers: Answers) -> Score:
    """Return the share of variance explained; without variance 1 if all is right, else 0."""
    squares = (answers.truth - answers.prediction) ** 2

    def score(weights: np.ndarray) -> float:
        centre = (weights * answers.truth).sum() / weights.sum()
        total = (weights * (answers.truth - centre) ** 2).sum()
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


def make_rmse_score(answers: Answers) -> Score:
    """Return the root of the mean squared error."""
    mean = make_mean_score((answers.truth - answers.prediction) ** 2)
    return lambda weights: mean(weights) ** 0.5


CLASSIFICATION: dict[str, Callable[[Answers], Score]] = {
    "roc_auc": lambda a: make_area_score(a, compute_roc_area),
    "average_precision": lambda a: make_area_score(a, compute_average_precision),
    "log_loss": make_log_loss_score,
    "accuracy": lambda a: make_mean_score(find_labels(a) == a.truth),
    "balanced_accuracy": lambda a: make_count_score(a, lambda right, true, said: divide(right, true), is_one=False),
    "f1": lambda a: make_count_score(
        a, lambda right, true, said: divide(2 * right, true + said), is_one=len(a.classes) == 2
    ),
}


REGRESSION: dict[str, Callable[[Answers], Score]] = {
    "r2": make_r2_score,
    "mae": lambda a: make_mean_score(np.abs(a.truth - a.prediction)),
    "rmse": make_rmse_score,
    "median_absolute_error": lambda a: make_median_score(np.abs(a.truth - a.prediction)),
}


def list_metrics(answers: Answers) -> list[str]:
    """Return the names of the task's metrics."""
    return list(CLASSIFICATION if answers.classes else REGRESSION)


def compute_metrics(answers: Answers) -> dict[str, float]:
    """Compute every metric of the task."""
    return {name: compute_metric(name, answers) for name in list_metrics(answers)}


def is_greater_better(name: str) -> bool:
    """Return whether a larger figure is a better one.

    >>> is_greater_better("roc_auc"), is_greater_better("mae")
    (True, False)
    """
    return name in GREATER_IS_BETTER
