"""What the model is compared with: the best constant prediction, and plain LightGBM on the raw columns as they are.

Not candidates: neither becomes the model. The one shows what was learnt, the other what features, comparison and tuning
were worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor

from labkit.features.table_columns import find_column_kind
from labkit.model.estimators.constant import make_constant
from labkit.model.evaluation.bootstrap import Interval, compute_intervals
from labkit.model.evaluation.predictions import compute_predictions
from labkit.params.tables import Target
from labkit.params.training import CLASSIFICATION_METRICS, REGRESSION_METRICS


@dataclass(frozen=True)
class PlainLightGBM:
    """LightGBM in its default settings behind nothing but types it takes.

    Attributes
    ----------
    kinds
        Kind of each raw column it was fitted on.
    categories
        Labels of each category column that the training rows have.
    """

    estimator: Any
    kinds: dict[str, str]
    categories: dict[str, pd.Index]

    @property
    def classes_(self) -> np.ndarray:
        """Labels in the order of the probabilities' columns."""
        return np.asarray(self.estimator.classes_)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict raw rows."""
        return np.asarray(self.estimator.predict(make_columns(frame, self.kinds, self.categories)))

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict the chances of raw rows, shape (n_rows, n_classes)."""
        return np.asarray(self.estimator.predict_proba(make_columns(frame, self.kinds, self.categories)))


def fit_dummies(frame: pd.DataFrame, *, target: Target) -> dict[str, Any]:
    """Fit the best constant prediction for every metric of the task.

    Parameters
    ----------
    frame
        Clean rows with the target.

    Returns
    -------
    dict
        Fitted estimator by metric.
    """
    names = CLASSIFICATION_METRICS if target.task == "classification" else REGRESSION_METRICS
    nothing, y_true = np.zeros((len(frame), 1)), frame[target.column].to_numpy()
    return {name: make_constant(name, target).fit(nothing, y_true) for name in names}


def compute_dummy_intervals(
    dummies: Mapping[str, Any], y_true: pd.Series, *, target: Target, **draws: Any
) -> dict[str, Interval]:
    """Compute each metric of the constant that is best for it, with its interval.

    Parameters
    ----------
    dummies
        As `fit_dummies` gives them.
    y_true
        The target's values of the rows to judge on, shape (n_rows,).
    draws
        As for `labkit.model.evaluation.bootstrap.compute_intervals`.
    """
    nothing = np.zeros((len(y_true), 1))
    predictions = {name: compute_predictions(y_true, dummy, nothing, target) for name, dummy in dummies.items()}
    return {name: compute_intervals(one, names=[name], **draws)[name] for name, one in predictions.items()}


def fit_plain_lightgbm(frame: pd.DataFrame, names: list[str], *, target: Target, seed: int) -> PlainLightGBM | None:
    """Fit LightGBM on raw columns; times, which it does not take, are left out. None if no column is left.

    Parameters
    ----------
    frame
        Clean rows with the target.
    names
        Raw columns to use, those that the chosen model is given.
    """
    kinds = {name: kind for name in names if (kind := find_column_kind(frame[name])) != "time"}
    if not kinds:
        return None
    texts = [name for name, kind in kinds.items() if kind == "category"]
    categories = {name: pd.Index(sorted(frame[name].dropna().astype(str).unique()), dtype=object) for name in texts}
    make = LGBMClassifier if target.task == "classification" else LGBMRegressor
    estimator = make(n_jobs=2, random_state=seed, deterministic=True, force_row_wise=True, verbosity=-1)
    estimator.fit(make_columns(frame, kinds, categories), frame[target.column].to_numpy())
    return PlainLightGBM(estimator.set_params(n_jobs=1), kinds, categories)


def make_columns(frame: pd.DataFrame, kinds: dict[str, str], categories: dict[str, pd.Index]) -> pd.DataFrame:
    """Return raw columns as LightGBM takes them: numbers and pandas categories, under names it does not refuse."""
    made: dict[str, Any] = {}
    for place, (name, kind) in enumerate(kinds.items()):
        values = frame[name]
        if kind == "category":
            codes = categories[name].get_indexer(pd.Index(values.astype(str).where(values.notna(), None), dtype=object))
            made[f"column_{place}"] = pd.Categorical.from_codes(codes, categories=categories[name])
        else:
            made[f"column_{place}"] = pd.to_numeric(values).to_numpy(dtype="float64", na_value=np.nan)
    return pd.DataFrame(made, index=frame.index)
