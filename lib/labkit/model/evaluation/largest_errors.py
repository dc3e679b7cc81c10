"""The rows with the largest errors, with the values that identify them and those that the model relies on most."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.quality.identifiers import find_identifier
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import Predictions
from labkit.params.wrangling import Wrangling

MOST_IDENTIFIERS = 2


def list_largest_errors(
    predictions: Predictions,
    rows: pd.DataFrame,
    features: pd.DataFrame,
    important: Sequence[str],
    *,
    declared: pd.DataFrame | None = None,
    most: int = 5,
) -> pd.DataFrame:
    """Return the rows with the largest loss, largest first, under their index, named `row`.

    Parameters
    ----------
    rows
        Raw columns of the same rows as the predictions.
    features
        Features of these rows.
    important
        Features to show, the most important first.
    declared
        Columns that the params leave out as identifiers, under the index of `rows`.

    Returns
    -------
    pandas.DataFrame
        The time of the prediction and the declared identifiers, or at most two that are found, if any; `true`,
        `prediction` (for two classes the probability of the class of interest, for more that of the true class),
        `loss`, and the important features.
    """
    losses = pd.Series(compute_losses(predictions), index=rows.index)
    worst = losses.to_numpy().argsort(kind="stable")[::-1][:most]
    found = [str(name) for name in rows if name not in important and find_identifier(rows[name], is_unnamed=False)]
    if declared is None or declared.empty:
        declared = rows[found[:MOST_IDENTIFIERS]]
    known = pd.concat([rows[[name for name in (PREDICT_AT,) if name in rows]], declared.map(format_identifier)], axis=1)
    y_true, y_pred = list_shown_values(predictions)
    made = pd.DataFrame({"true": y_true, "prediction": y_pred, "loss": losses}, index=rows.index)
    shown = [name for name in important if name in features]
    return pd.concat([known, made, features[shown]], axis=1).iloc[worst].rename_axis("row")


def list_shown_values(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return true values and predictions of rows as readers see them, each of shape (n_rows,).

    The prediction is for two classes the probability of the class of interest, for more that of the true class.
    """
    if not predictions.classes:
        return predictions.y_true, predictions.y_pred
    y_true = pd.Series(list(predictions.classes)).to_numpy()[predictions.y_true]
    code = predictions.positive if len(predictions.classes) == 2 else predictions.y_true
    return y_true, predictions.y_proba[range(len(y_true)), code]


def take_identifiers(main: pd.DataFrame, rows: pd.DataFrame, wrangling: Wrangling) -> pd.DataFrame:
    """Return the columns that the params leave out as identifiers, of some rows of the main table."""
    return main.loc[rows.index, [name for name in wrangling.list_identifiers() if name in main]]


def format_identifier(value: Any) -> str:
    """Return an identifier as it is written, without separators or decimals.

    >>> format_identifier(1545.0), format_identifier("T00007"), format_identifier(None)
    ('1545', 'T00007', 'missing')
    """
    if pd.isna(value):
        return "missing"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
