"""The best constant prediction for each metric, which any model has to beat.

Which constant is best depends on the metric: the median for the absolute error, the mean for the squared error, the
class frequencies for the log loss. A model must not count as better than a constant prediction only because the
constant was chosen for another metric.
"""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.dummy import DummyClassifier, DummyRegressor

from labkit.params.own_metrics import OWN_METRICS
from labkit.params.tables import Target, find_positive
from labkit.params.training import BUILTIN_METRICS


class BestClassForF1(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predict one class with certainty: the class of interest of two classes, the most frequent of more than two.

    Parameters
    ----------
    positive
        The class of interest; the last class if None.
    """

    def __init__(self, positive: Any = None) -> None:
        self.positive = positive

    def fit(self, X: Any, y: Any) -> "BestClassForF1":
        """Learn the classes."""
        self.classes_, counts = np.unique(y, return_counts=True)
        labels = self.classes_.tolist()
        self.code_ = find_positive(labels, self.positive) if len(labels) == 2 else int(counts.argmax())
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return 1 for the predicted class and 0 for the others, shape (n_rows, n_classes)."""
        return np.tile(np.eye(len(self.classes_))[self.code_], (len(X), 1))

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted class, shape (n_rows,)."""
        return np.full(len(X), self.classes_[self.code_])


class ShortestHalf(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predict the midpoint of the shortest interval that contains half of the values.

    This constant minimises the median absolute error (least median of squares, Rousseeuw, JASA 1984).
    """

    def fit(self, X: Any, y: Any) -> "ShortestHalf":
        """Compute the midpoint."""
        values = np.sort(np.asarray(y, dtype="float64"))
        n_half = len(values) // 2 + 1
        start = int(np.argmin(values[n_half - 1 :] - values[: len(values) - n_half + 1]))
        self.constant_ = float((values[start] + values[start + n_half - 1]) / 2)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the midpoint, shape (n_rows,)."""
        return np.full(len(X), self.constant_)


class BestConstant(BaseEstimator):  # type: ignore[misc]
    """Predict the constant that is best for a metric of the user's own on the training rows.

    For numbers, it tries the mean and the percentiles; for classes, their shares and each class with certainty.

    Parameters
    ----------
    metric
        Its name.
    positive
        The class of interest; the last class if None.
    """

    def __init__(self, metric: str, positive: Any = None) -> None:
        self.metric, self.positive = metric, positive

    def score_constant(self, y_true: np.ndarray, y_pred: np.ndarray, *more: Any) -> float:
        """Return the metric of constant predictions, negative if smaller is better."""
        metric = OWN_METRICS.find(self.metric)
        return (1 if metric.declared.better == "greater" else -1) * metric.compute(y_true, y_pred, *more)


class BestNumber(RegressorMixin, BestConstant):  # type: ignore[misc]
    """Predict the number that is best for a metric of the user's own."""

    def fit(self, X: Any, y: Any) -> "BestNumber":
        """Choose the number."""
        values = np.asarray(y, dtype="float64")
        tried = [float(values.mean()), *np.quantile(values, np.arange(1, 100) / 100).tolist()]
        self.constant_ = max(tried, key=lambda one: self.score_constant(values, np.full(len(values), one)))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the number, shape (n_rows,)."""
        return np.full(len(X), self.constant_)


class BestShares(ClassifierMixin, BestConstant):  # type: ignore[misc]
    """Predict the probabilities that are best for a metric of the user's own: the shares of the classes, or one."""

    def fit(self, X: Any, y: Any) -> "BestShares":
        """Choose the probabilities."""
        self.classes_, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        labels, n_rows = self.classes_.tolist(), len(codes)
        positive = find_positive(labels, self.positive)

        def score(shares: np.ndarray) -> float:
            code = np.full(n_rows, shares.argmax())
            return self.score_constant(codes, code, np.tile(shares, (n_rows, 1)), labels, positive)

        self.shares_ = max([counts / n_rows, *np.eye(len(labels))], key=score)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities, the same for each row, shape (n_rows, n_classes)."""
        return np.tile(self.shares_, (len(X), 1))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class, shape (n_rows,)."""
        return np.full(len(X), self.classes_[self.shares_.argmax()])


def make_constant(metric: str, target: Target) -> BaseEstimator:
    """Return the unfitted estimator whose constant prediction is the best for a metric.

    Parameters
    ----------
    metric
        One of `labkit.params.CLASSIFICATION_METRICS` or `REGRESSION_METRICS`, depending on the target's task, or one of
        the user's own.
    """
    if metric not in BUILTIN_METRICS:
        make = BestShares if target.task == "classification" else BestNumber
        return make(metric, target.positive)
    if target.task == "classification":
        return BestClassForF1(target.positive) if metric == "f1" else DummyClassifier(strategy="prior")
    if metric == "median_absolute_error":
        return ShortestHalf()
    return DummyRegressor(strategy="median" if metric == "mae" else "mean")


def name_constant(metric: str, *, n_classes: int) -> str:
    """Return what `make_constant` predicts, in words.

    >>> name_constant("mae", n_classes=0), name_constant("f1", n_classes=2)
    ('the median', 'the class of interest')
    """
    if metric not in BUILTIN_METRICS:
        return "the constant that is best for it"
    if metric == "f1":
        return "the class of interest" if n_classes == 2 else "the most frequent class"
    if n_classes:
        return "the class shares"
    return {"mae": "the median", "median_absolute_error": "the midpoint of the shortest half"}.get(metric, "the mean")
