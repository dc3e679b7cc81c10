"""A classifier whose probabilities are corrected by a fitted sigmoid."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

SMALLEST_DISTANCE = 1e-6
"""Distance that probabilities keep from 0 and 1 before their log odds are computed."""


class Calibrated(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A binary classifier whose log odds are scaled and shifted: `slope * log_odds + intercept`.

    Parameters
    ----------
    estimator
        The classifier; `fit` fits it again.
    slope, intercept
        Calibration parameters; `fit` does not change them.
    """

    def __init__(self, estimator: Any, slope: float = 1.0, intercept: float = 0.0) -> None:
        self.estimator = estimator
        self.slope = slope
        self.intercept = intercept

    def fit(self, X: Any, y: Any) -> "Calibrated":
        """Fit the inner estimator in place."""
        self.estimator.fit(X, y)
        self.classes_ = self.estimator.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities, shape (n_rows, 2)."""
        probability = calibrate(self.estimator.predict_proba(X)[:, 1], self.slope, self.intercept)
        return np.column_stack([1 - probability, probability])

    def predict(self, X: Any) -> np.ndarray:
        """Return the more probable class, shape (n_rows,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def calibrate(probability: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Return probabilities whose log odds are scaled by `slope` and shifted by `intercept`, shape (n_rows,).

    >>> calibrate(np.array([0.2, 0.5]), 1.0, 0.0).round(6).tolist()
    [0.2, 0.5]
    """
    odds = slope * compute_log_odds(probability) + intercept
    return np.asarray(1 / (1 + np.exp(-odds)))


def compute_log_odds(probability: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, shape (n_rows,)."""
    kept = np.clip(probability, SMALLEST_DISTANCE, 1 - SMALLEST_DISTANCE)
    return np.asarray(np.log(kept / (1 - kept)))
