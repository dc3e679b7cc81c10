"""Metrics of predictions.

See `labkit.model.evaluation.bootstrap` for their confidence intervals, and `labkit.model.evaluation.gate` for whether
they are good enough.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from labkit.errors import ModelError
from labkit.model.evaluation.predictions import Predictions
from labkit.params.own_metrics import OWN_METRICS, OwnMetric
from labkit.params.training import BUILTIN_METRICS
from labkit.units import format_count

SMALLEST_PROBABILITY = 1e-6
"""Lower bound of probabilities in the losses of single rows, so that a row predicted as impossible cannot dominate."""
GREATER_IS_BETTER = {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "r2"}
PROBE_METRICS = {"classification": "roc_auc", "regression": "r2"}
"""Metric by task in which a LightGBM is compared with itself, on other rows or other features."""
IN_TARGET_UNIT = ("mae", "rmse", "median_absolute_error")
"""Metrics in the unit of the target; the others have none."""
OF_CLASSES = ("accuracy", "balanced_accuracy", "f1")
"""Built-in metrics of predicted classes; see `list_metrics_of_classes`."""


Score = Callable[[np.ndarray], float]
"""A metric as a function of the weight of each row, shape (n_rows,): integers, or fractions of rows."""


def name_metric(name: str, *, n_classes: int) -> str:
    """Return a metric with the threshold that it depends on: for two classes, predicted classes are at 0.5.

    >>> name_metric("f1", n_classes=2), name_metric("f1", n_classes=3)
    ('f1 at a threshold of 0.5', 'f1')
    """
    return f"{name} at a threshold of 0.5" if n_classes == 2 and name in list_metrics_of_classes() else name


def list_metrics_of_classes() -> list[str]:
    """Return the metrics of predicted classes, which depend on the threshold if there are two; the user's own last."""
    return [*OF_CLASSES, *(name for name in OWN_METRICS.paths if OWN_METRICS.find(name).is_of_classes)]


def compute_metric(name: str, predictions: Predictions) -> float:
    """Compute one metric.

    With more than two classes, areas under curves are one-vs-rest macro averages, and so is F1; classes that do not
    occur among the true classes are left out of the average.

    Raises
    ------
    ParamsError
        There is no such metric, or it is one of the user's own and cannot be imported.
    ModelError
        One of the user's own fails, or returns no number.
    """
    return make_score(name, predictions)(np.ones(len(predictions.y_true), dtype=np.int64))


def make_score(name: str, predictions: Predictions) -> Score:
    """Return a function that computes one metric of the same rows for any weights.

    A bootstrap draw weights each row by how often it was drawn. Everything that does not depend on the weights, such
    as the order of the predictions, is computed only once, which makes a thousand draws of 60,000 rows affordable.
    """
    made = (CLASSIFICATION if predictions.classes else REGRESSION).get(name)
    return made(predictions) if made else make_own_score(OWN_METRICS.find(name), predictions)


def make_own_score(metric: OwnMetric, predictions: Predictions) -> Score:
    """Return a score that is a metric of the user's own: it gets each row as often as its weight says.

    It is undefined, like areas under curves, where all true values are of one class.
    """

    def score(weights: np.ndarray) -> float:
        drawn = predictions.take(np.repeat(np.arange(len(weights)), weights))
        if drawn.classes and len(np.unique(drawn.y_true)) < 2:
            return np.nan
        return metric.compute(drawn.y_true, drawn.y_pred, drawn.y_proba, drawn.classes, drawn.positive)

    return score


def find_perfect(name: str, predictions: Predictions) -> float:
    """Return the value of a metric for predictions that equal the true values."""
    if name in BUILTIN_METRICS:
        return 1.0 if is_greater_better(name) else 0.0
    return compute_metric(name, predict_alike(predictions, predictions.y_true))


def predict_alike(predictions: Predictions, y_pred: np.ndarray) -> Predictions:
    """Return certain predictions of these values, or codes of classes, for the same rows."""
    if not predictions.classes:
        return replace(predictions, y_pred=y_pred)
    return replace(predictions, y_pred=y_pred, y_proba=np.eye(len(predictions.classes))[y_pred])


def check_own_metrics(predictions: Predictions) -> None:
    """Try each metric of the user's own twice: on the true values as predictions, and on constants.

    Raises
    ------
    ParamsError, ModelError
        One cannot be imported, fails, returns no number, or returns another one when it is called again.
    """
    true = predictions.y_true
    constants = range(len(predictions.classes)) if predictions.classes else [true.mean()]
    trials = [true, *(np.full_like(true, constant) for constant in constants)]
    for name in OWN_METRICS.paths:
        for y_pred in trials:
            first, second = (compute_metric(name, predict_alike(predictions, y_pred)) for _ in range(2))
            if not np.array_equal(first, second, equal_nan=True):
                raise ModelError(
                    f"{OWN_METRICS.find(name).lead()}: gives {first:.9g} and {second:.9g} for the same "
                    f"{format_count(len(true), 'row')}: remove randomness and whatever it remembers between calls"
                )


def compute_losses(predictions: Predictions) -> np.ndarray:
    """Return each row's loss, shape (n_rows,): absolute error for regression, log loss of at most 13.8 for classes."""
    if not predictions.classes:
        return np.abs(predictions.y_true - predictions.y_pred)
    probabilities = predictions.y_proba[np.arange(len(predictions.y_true)), predictions.y_true]
    return -np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))


def divide(part: Any, whole: Any) -> Any:
    """Divide, with a result of 0 where the divisor is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) != 0)


def make_mean_score(values: np.ndarray) -> Score:
    """Return a score that is the weighted mean of one number per row, shape (n_rows,)."""
    return lambda weights: float((weights * values).sum() / weights.sum())


def make_area_score(predictions: Predictions, make_area: Callable[[np.ndarray, np.ndarray], Score]) -> Score:
    """Return a score that is an area under a curve, of the class of interest or averaged over classes that occur."""
    # `make_area` takes which rows are hits, and the last row of each distinct prediction, in descending order of
    # predictions; its score takes weights in that order.
    curves = []
    for code in [predictions.positive] if len(predictions.classes) == 2 else range(len(predictions.classes)):
        y_proba = predictions.y_proba[:, code]
        order = np.argsort(-y_proba, kind="stable")
        ends = np.flatnonzero(np.diff(y_proba[order], append=np.nan) != 0)
        is_hit = predictions.y_true[order] == code
        curves.append((order, np.flatnonzero(is_hit), np.flatnonzero(~is_hit), make_area(is_hit, ends)))

    def score(weights: np.ndarray) -> float:
        areas = []
        for order, hits, misses, area in curves:
            ordered = weights[order]
            is_found = ordered[hits].any()
            if len(curves) == 1 or is_found:
                areas.append(area(ordered) if is_found and ordered[misses].any() else np.nan)
        return float(np.mean(areas))

    return score


def make_roc_area(is_hit: np.ndarray, ends: np.ndarray) -> Score:
    """Return a score that is the probability that a hit ranks above a miss, with ties counted as one half."""
    hits, is_miss = np.flatnonzero(is_hit), (~is_hit).astype(np.int64)
    place = np.searchsorted(ends, hits)
    first, last = np.concatenate([[0], ends + 1])[place], ends[place] + 1

    def score(weights: np.ndarray) -> float:
        # Of integers, which the weights of draws are, all sums are exact.
        before = np.concatenate([[0], np.cumsum(weights * is_miss)])
        weights_of_hits, n_misses = weights[hits], before[-1]
        twice = (weights_of_hits * (2 * n_misses - before[first] - before[last])).sum()
        return float(twice / 2 / (weights_of_hits.sum() * n_misses))

    return score


def make_average_precision(is_hit: np.ndarray, ends: np.ndarray) -> Score:
    """Return a score that is the precision at each distinct prediction, averaged over the hits found there."""
    ones = is_hit.astype(np.int64)

    def score(weights: np.ndarray) -> float:
        found = np.cumsum(weights * ones)[ends]
        hits = np.diff(found, prepend=0)
        return float((hits * divide(found, np.cumsum(weights)[ends])).sum() / hits.sum())

    return score


def make_log_loss_score(predictions: Predictions) -> Score:
    """Return a score that is the mean negative logarithm of the probability predicted for the true class."""
    smallest = np.finfo("float64").eps
    probabilities = predictions.y_proba[np.arange(len(predictions.y_true)), predictions.y_true]
    return make_mean_score(-np.log(np.clip(probabilities, smallest, 1 - smallest)))


def make_count_score(
    predictions: Predictions, compute: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], *, is_one: bool
) -> Score:
    """Return a score per class, of the class of interest if `is_one`, else averaged over the classes that occur."""
    # `compute` takes counts per class: rows predicted correctly, rows truly in the class, rows predicted to be in it.
    n_classes = len(predictions.classes)
    cells = predictions.y_true * n_classes + predictions.y_pred

    def score(weights: np.ndarray) -> float:
        confusion = np.bincount(cells, weights, n_classes**2).reshape(n_classes, n_classes)
        true = confusion.sum(axis=1)
        scores = compute(confusion.diagonal(), true, confusion.sum(axis=0))
        return float(scores[predictions.positive] if is_one else scores[true > 0].mean())

    return score


def make_r2_score(predictions: Predictions) -> Score:
    """Return a score that is the fraction of variance explained; without variance, 1 if all is correct, else 0."""
    squares = (predictions.y_true - predictions.y_pred) ** 2

    def score(weights: np.ndarray) -> float:
        centre = (weights * predictions.y_true).sum() / weights.sum()
        total = (weights * (predictions.y_true - centre) ** 2).sum()
        rest = (weights * squares).sum()
        return float(1 - rest / total) if total > 0 else float(rest == 0)

    return score


def make_median_score(values: np.ndarray) -> Score:
    """Return a score that is the weighted median of one number per row, shape (n_rows,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def score(weights: np.ndarray) -> float:
        ends = np.cumsum(weights[order])
        middle = np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")
        return float(ordered[middle].mean())

    return score


def make_rmse_score(predictions: Predictions) -> Score:
    """Return a score that is the root mean squared error."""
    mean = make_mean_score((predictions.y_true - predictions.y_pred) ** 2)
    return lambda weights: mean(weights) ** 0.5


CLASSIFICATION: dict[str, Callable[[Predictions], Score]] = {
    "roc_auc": lambda p: make_area_score(p, make_roc_area),
    "average_precision": lambda p: make_area_score(p, make_average_precision),
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
    """Return the names of the task's metrics, the user's own last."""
    return [*(CLASSIFICATION if predictions.classes else REGRESSION), *OWN_METRICS.paths]


def compute_metrics(predictions: Predictions) -> dict[str, float]:
    """Compute every metric of the task."""
    return {name: compute_metric(name, predictions) for name in list_metrics(predictions)}


def is_greater_better(name: str) -> bool:
    """Return whether a larger value of a metric is better.

    >>> is_greater_better("roc_auc"), is_greater_better("mae")
    (True, False)
    """
    if name in BUILTIN_METRICS:
        return name in GREATER_IS_BETTER
    return OWN_METRICS.find(name).declared.better == "greater"
