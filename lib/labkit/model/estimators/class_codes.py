"""A classifier that is fitted to the numbers of the classes, for libraries that accept no other labels."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

LIBRARY = "xgboost"


class ClassCodes(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of any labels around one that needs 0, 1, … as labels; it has the parameters of that one.

    Parameters
    ----------
    estimator
        The classifier; `fit` fits it in place.

    Attributes
    ----------
    classes_
        The labels, sorted.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> made = ClassCodes(LogisticRegression()).set_params(C=2.0).fit([[0.0], [1.0]], ["no", "yes"])
    >>> made.predict([[3.0]]).tolist(), made.estimator.classes_.tolist()
    (['yes'], [0, 1])
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the classifier, and its parameters by their own names."""
        return {"estimator": self.estimator, **(self.estimator.get_params() if deep else {})}

    def set_params(self, **params: Any) -> "ClassCodes":
        """Set the classifier, or parameters of it by their own names."""
        self.estimator = params.pop("estimator", self.estimator)
        self.estimator.set_params(**params)
        return self

    def fit(self, X: Any, y: Any) -> "ClassCodes":
        """Fit the classifier to the numbers of the labels."""
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        self.estimator.fit(X, codes)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities, shape (n_rows, n_classes)."""
        return np.asarray(self.estimator.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label, shape (n_rows,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def number_classes(estimator: Any) -> Any:
    """Return a classifier of XGBoost, alone or as the last step of a pipeline, in `ClassCodes`; any other as it is."""
    if isinstance(estimator, Pipeline):
        *steps, (name, last) = estimator.steps
        return Pipeline([*steps, (name, number_classes(last))])
    is_needed = hasattr(estimator, "predict_proba") and any(
        kind.__module__.partition(".")[0] == LIBRARY for kind in type(estimator).__mro__
    )
    return ClassCodes(estimator) if is_needed else estimator
