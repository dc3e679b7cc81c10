"""Metrics that are expected of predictions whose true values are not known yet.

If probabilities are calibrated, they say how often each class will turn out to be true. So each row counts once for
each class, with the probability of the class as its weight, and any metric follows without true values
(confidence-based performance estimation, as in NannyML). It follows changes of the inputs, and cannot see that rows
with the same inputs now have other outcomes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labkit.model.evaluation.metrics import CLASSIFICATION, Score, compute_losses, make_score
from labkit.model.evaluation.predictions import Predictions
from labkit.params.evaluation import Costs

FEWEST_CALIBRATED = 1000
"""Rows with true values from which probabilities of two classes are calibrated again: fewer are fitted too closely."""


@dataclass(frozen=True)
class Recalibration:
    """Calibrated probabilities of the class of interest by predicted ones, with straight lines between.

    Attributes
    ----------
    predicted, calibrated
        Ascending, in [0, 1], shape (n_steps,); empty to take probabilities as they are.
    """

    predicted: tuple[float, ...] = ()
    calibrated: tuple[float, ...] = ()

    @classmethod
    def fit(cls, predictions: Predictions) -> "Recalibration":
        """Return the isotonic regression of true values on predictions; none with few rows, or more than two classes.

        Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates",
        KDD 2002.
        """
        is_hit = predictions.y_true == predictions.positive
        if len(predictions.classes) != 2 or len(is_hit) < FEWEST_CALIBRATED or is_hit.all() or not is_hit.any():
            return cls()
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(out_of_bounds="clip").fit(predictions.y_proba[:, predictions.positive], is_hit)
        return cls(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))

    def apply(self, y_proba: np.ndarray, positive: int) -> np.ndarray:
        """Return calibrated probabilities, shape (n_rows, n_classes)."""
        if not self.predicted:
            return y_proba
        hits = np.interp(y_proba[:, positive], self.predicted, self.calibrated)
        return np.column_stack([hits, 1 - hits] if positive == 0 else [1 - hits, hits])

    @classmethod
    def from_dict(cls, content: Mapping[str, Sequence[float]]) -> "Recalibration":
        """Return what its fields as plain data describe."""
        return cls(tuple(content["predicted"]), tuple(content["calibrated"]))


def make_estimate(name: str, predictions: Predictions, calibrated: np.ndarray) -> Score | None:
    """Return a function that computes the metric that is expected of the same rows for any weights.

    None for numbers, and for metrics of the user's own; see `estimate_metric`.
    """
    if name not in CLASSIFICATION or not len(calibrated):
        return None
    n_rows, n_classes = calibrated.shape
    every: dict[str, Any] = {
        "y_true": np.repeat(np.arange(n_classes), n_rows),
        "y_pred": np.tile(predictions.y_pred, n_classes),
        "y_proba": np.tile(predictions.y_proba, (n_classes, 1)),
    }
    expanded = Predictions(**every, classes=predictions.classes, positive=predictions.positive)
    score = make_score(name, expanded)
    return lambda weights: score((calibrated.T * weights).ravel())


def estimate_metric(name: str, predictions: Predictions, calibrated: np.ndarray) -> float | None:
    """Return the value of a metric that is expected; None for numbers, and for metrics of the user's own.

    Parameters
    ----------
    predictions
        Predictions, whose true values are not used.
    calibrated
        Probability of each class, shape (n_rows, n_classes).

    Examples
    --------
    >>> proba = np.array([[0.9, 0.1], [0.4, 0.6]])
    >>> two = Predictions.from_proba(np.zeros(2, int), proba, ("no", "yes"))
    >>> round(estimate_metric("accuracy", two, proba), 3)
    0.75
    """
    score = make_estimate(name, predictions, calibrated)
    value = np.nan if score is None else score(np.ones(len(calibrated)))
    return float(value) if np.isfinite(value) else None


def estimate_losses(predictions: Predictions, calibrated: np.ndarray) -> np.ndarray:
    """Return the loss that is expected of each row, shape (n_rows,); see `estimate_metric`."""
    codes = range(len(predictions.classes))
    every = [compute_losses(replace(predictions, y_true=np.full(len(calibrated), code))) for code in codes]
    return np.asarray((calibrated * np.column_stack(every)).sum(axis=1))


def estimate_cost(predictions: Predictions, calibrated: np.ndarray, threshold: float, costs: Costs) -> float:
    """Return the cost per row at a threshold that is expected; see `estimate_metric`."""
    hits = calibrated[:, predictions.positive]
    acts = predictions.y_proba[:, predictions.positive] >= threshold
    return float(np.where(acts, costs.false_positive * (1 - hits), costs.false_negative * hits).mean())
