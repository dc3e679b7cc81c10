"""Fitting the recipe of a model again on other rows: its features, preparation and estimator with their settings."""

import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.model.training.comparison import adapt_preparation, fit_model
from labkit.params.tables import Target


def refit_model(model: Pipeline, rows: pd.DataFrame, *, target: Target, seed: int) -> Pipeline:
    """Return the recipe of a model fitted on rows; the model is not changed.

    Parameters
    ----------
    model
        A fitted pipeline as `labkit.model.training.comparison.fit_model` returns it.
    rows
        Clean rows with the target, shape (n_rows, n_columns); their outcomes count in the histories.

    Returns
    -------
    Pipeline
        With the hashes of these rows; see `labkit.model.evaluation.row_hashes`.
    """
    outcome = rows[target.column]
    features = clone(model[0]).fit(rows.drop(columns=target.column), outcome)
    made = features.transform(rows)
    (_, preparation), *others = model[1:].steps
    candidate = Pipeline([("preparation", adapt_preparation(preparation, features.outputs_)), *others])
    return fit_model(candidate, features, [(made, outcome)], target=target, seed=seed)
