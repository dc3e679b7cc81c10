"""Baselines of the evaluation: the best constant prediction, and plain LightGBM on the unchanged raw columns.

They are not candidates: neither becomes the model. The constant shows how much the model has learned, and plain
LightGBM how much feature engineering, comparison and tuning have gained.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor

from labkit.features.table_columns import find_column_kind
from labkit.model.estimators.candidates import LIGHTGBM_FIXED, N_JOBS
from labkit.model.estimators.constant import make_constant
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.tables import Target
from labkit.params.training import CLASSIFICATION_METRICS, REGRESSION_METRICS


@dataclass(frozen=True)
class PlainLightGBM:
    """LightGBM with default settings and no preprocessing except conversion to types that it accepts.

    Attributes
    ----------
    kinds
        Kind of each raw column that it was fitted on.
    categories
        Categories of each categorical column in the training rows.
    """

    estimator: Any
    kinds: dict[str, str]
    categories: dict[str, pd.Index]

    @property
    def classes_(self) -> np.ndarray:
        """Class labels in the order of the probability columns."""
        return np.asarray(self.estimator.classes_)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict raw rows."""
        return np.asarray(self.estimator.predict(make_columns(frame, self.kinds, self.categories)))

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict the class probabilities of raw rows, shape (n_rows, n_classes)."""
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
        Fitted estimator of each metric.
    """
    builtin = CLASSIFICATION_METRICS if target.task == "classification" else REGRESSION_METRICS
    names = (*builtin, *OWN_METRICS.paths)
    nothing, y_true = np.zeros((len(frame), 1)), frame[target.column].to_numpy()
    return {name: make_constant(name, target).fit(nothing, y_true) for name in names}


def predict_dummies(dummies: Mapping[str, Any], y_true: pd.Series, *, target: Target) -> dict[str, Predictions]:
    """Return, by metric, the predictions of the constant that is best for it.

    Parameters
    ----------
    dummies
        As returned by `fit_dummies`.
    y_true
        Target values of the rows to evaluate on, shape (n_rows,).
    """
    nothing = np.zeros((len(y_true), 1))
    return {name: compute_predictions(y_true, dummy, nothing, target) for name, dummy in dummies.items()}


def tabulate_constant(dummy: Predictions) -> dict[str, float]:
    """Return the number that a dummy always predicts, as a cell of a table; empty for classes."""
    return {} if dummy.classes or not len(dummy.y_pred) else {"dummy always predicts": float(dummy.y_pred[0])}


def fit_plain_lightgbm(frame: pd.DataFrame, names: list[str], *, target: Target, seed: int) -> PlainLightGBM | None:
    """Fit LightGBM on raw columns without times, which it does not accept; return None if no column is left.

    Parameters
    ----------
    frame
        Clean rows with the target.
    names
        Raw columns to use, the same as the inputs of the chosen model.
    """
    kinds, categories = find_inputs(frame, names)
    if not kinds:
        return None
    estimator = make_lightgbm(target, seed=seed)
    estimator.fit(make_columns(frame, kinds, categories), frame[target.column].to_numpy())
    return PlainLightGBM(estimator.set_params(n_jobs=1), kinds, categories)


def predict_plain_apart(
    plain: PlainLightGBM | None, training: pd.DataFrame, validation: pd.DataFrame, *, target: Target, seed: int
) -> Predictions | None:
    """Predict the validation rows with plain LightGBM fitted without them; None without that baseline.

    Parameters
    ----------
    plain
        Plain LightGBM as it was fitted on training and validation rows.
    training, validation
        Clean rows with the target.
    """
    apart = fit_plain_lightgbm(training, list(plain.kinds), target=target, seed=seed) if plain else None
    return compute_predictions(validation[target.column], apart, validation, target) if apart else None


def make_lightgbm(target: Target, *, seed: int, **settings: Any) -> Any:
    """Return an unfitted LightGBM for raw columns, with default settings except those given."""
    make = LGBMClassifier if target.task == "classification" else LGBMRegressor
    fixed: dict[str, Any] = {"n_jobs": N_JOBS, "random_state": seed, **LIGHTGBM_FIXED}
    return make(**fixed, **settings)


def find_inputs(frame: pd.DataFrame, names: Iterable[str]) -> tuple[dict[str, str], dict[str, pd.Index]]:
    """Return the kinds of the columns that are not times, and the categories of each categorical column in the rows."""
    kinds = {name: kind for name in names if (kind := find_column_kind(frame[name])) != "time"}
    strings = [name for name, kind in kinds.items() if kind == "category"]
    return kinds, {name: pd.Index(sorted(frame[name].dropna().astype(str).unique()), dtype=object) for name in strings}


def make_columns(frame: pd.DataFrame, kinds: dict[str, str], categories: dict[str, pd.Index]) -> pd.DataFrame:
    """Return raw columns in the form that LightGBM accepts: numbers and pandas categories, under permitted names."""
    made: dict[str, Any] = {}
    for place, (name, kind) in enumerate(kinds.items()):
        values = frame[name]
        if kind == "category":
            codes = categories[name].get_indexer(pd.Index(values.astype(str).where(values.notna(), None), dtype=object))
            made[f"column_{place}"] = pd.Categorical.from_codes(codes, categories=categories[name])
        else:
            made[f"column_{place}"] = pd.to_numeric(values).to_numpy(dtype="float64", na_value=np.nan)
    return pd.DataFrame(made, index=frame.index)
