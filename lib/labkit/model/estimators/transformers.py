"""Steps of the preparation that scikit-learn lacks, so that a model and its ONNX graph see the same numbers."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import TargetEncoder

REACH = 10.0
"""Ranges of a column beyond its ends from which on a number counts as no farther away."""


class RangeClipper(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clip each column to `reach` times its range beyond its ends.

    For models that measure distances: the square of one absurd number leaves no digits for all others, so that which
    rows are nearest would be left to rounding.

    Attributes
    ----------
    low_, high_
        Limits, float64, shape (n_columns,).

    Examples
    --------
    >>> RangeClipper().fit([[0.0], [1.0]]).transform([[0.5], [1e15]]).tolist()
    [[0.5], [11.0]]
    """

    def __init__(self, reach: float = REACH) -> None:
        self.reach = reach

    def fit(self, X: Any, y: Any = None) -> "RangeClipper":
        """Learn the limits from rows without missing values, shape (n_rows, n_columns)."""
        numbers = np.asarray(X, dtype="float64")
        self.n_features_in_ = numbers.shape[1]
        smallest, largest = numbers.min(axis=0), numbers.max(axis=0)
        beyond = self.reach * (largest - smallest)
        self.low_, self.high_ = smallest - beyond, largest + beyond
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the clipped numbers, float64, shape (n_rows, n_columns)."""
        return np.clip(np.asarray(X, dtype="float64"), self.low_, self.high_)


class Float32TargetEncoder(TargetEncoder):  # type: ignore[misc]
    """scikit-learn's target encoder with means rounded to what float32 holds.

    Trees put thresholds between means that may be very close; where only the graph rounded them, some would fall on
    the other side.
    """

    def fit_transform(self, X: Any, y: Any, **params: Any) -> np.ndarray:
        """Fit, and return the means of each row's categories, each learnt from other rows than its own."""
        return round_to_float32(super().fit_transform(X, y, **params))

    def transform(self, X: Any) -> np.ndarray:
        """Return the means of each row's categories, shape (n_rows, n_columns), or (n_rows, n_columns · n_classes)."""
        return round_to_float32(super().transform(X))


def round_to_float32(numbers: np.ndarray) -> np.ndarray:
    """Return the nearest numbers that float32 holds exactly, as float64."""
    return np.asarray(numbers, dtype="float32").astype("float64")
