"""Preprocessing steps that scikit-learn lacks; with them a model and its ONNX graph see the same numbers."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import TargetEncoder

REACH = 10.0
"""Distance beyond a column's minimum and maximum, in multiples of its range, at which values are clipped."""


class RangeClipper(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clip each column to `reach` times its range beyond its minimum and maximum.

    For models that measure distances: next to the square of one huge outlier, all other differences fall below the
    floating-point precision, and rounding would decide which rows are nearest.

    Parameters
    ----------
    reach
        Multiple of the column's range.

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
    """scikit-learn's target encoder with means rounded to float32 precision.

    Trees place thresholds between means that may be very close. If only the ONNX graph rounded the means, some would
    fall on the other side of a threshold.
    """

    def fit_transform(self, X: Any, y: Any, **params: Any) -> np.ndarray:
        """Fit, and return the means of each row's categories, cross-fitted so that a row's own target is not used."""
        return round_to_float32(super().fit_transform(X, y, **params))

    def transform(self, X: Any) -> np.ndarray:
        """Return the means of each row's categories, shape (n_rows, n_columns), or (n_rows, n_columns · n_classes)."""
        return round_to_float32(super().transform(X))


def round_to_float32(numbers: np.ndarray) -> np.ndarray:
    """Round numbers to the nearest float32 and return them as float64."""
    return np.asarray(numbers, dtype="float32").astype("float64")
