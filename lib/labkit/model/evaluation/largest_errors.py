"""The rows with the largest errors, with the values that identify them and those that the model relies on most."""

from collections.abc import Sequence

import pandas as pd

from labkit.data.quality.identifiers import find_identifier
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import Predictions

MOST_IDENTIFIERS = 2


def list_largest_errors(
    predictions: Predictions, rows: pd.DataFrame, features: pd.DataFrame, important: Sequence[str], *, most: int = 5
) -> pd.DataFrame:
    """Return the rows with the largest loss, largest first, under their index.

    Parameters
    ----------
    rows
        Raw columns of the same rows as the predictions.
    features
        Features of these rows.
    important
        Features to show, the most important first.

    Returns
    -------
    pandas.DataFrame
        The time of the prediction and at most two identifiers, if there are any, `true`, `prediction` (for two classes
        the probability of the class of interest, for more that of the true class), `loss`, and the important features.
    """
    losses = pd.Series(compute_losses(predictions), index=rows.index)
    worst = losses.to_numpy().argsort(kind="stable")[::-1][:most]
    identifiers = [
        str(name) for name in rows if name not in important and find_identifier(rows[name], is_unnamed=False)
    ]
    known = [name for name in (PREDICT_AT, *identifiers[:MOST_IDENTIFIERS]) if name in rows]
    y_true, y_pred = predictions.y_true, predictions.y_pred
    if predictions.classes:
        y_true = pd.Series(list(predictions.classes)).to_numpy()[predictions.y_true]
        code = predictions.positive if len(predictions.classes) == 2 else predictions.y_true
        y_pred = predictions.y_proba[range(len(y_true)), code]
    made = pd.DataFrame({"true": y_true, "prediction": y_pred, "loss": losses}, index=rows.index)
    shown = [name for name in important if name in features]
    return pd.concat([rows[known], made, features[shown]], axis=1).iloc[worst]
