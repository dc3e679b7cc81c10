"""Curves of an evaluation as small tables, one CSV file each, for `dvc plots` and for other programs.

See `labkit.view` for the plots in the notebooks. Each curve has a folder, because dvc.yaml declares the same outputs
for every experiment; the folder of a curve that does not apply is empty.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from labkit.model.evaluation.predictions import Predictions
from labkit.storage.atomic import atomic_write

MOST_POINTS = 300
N_GROUPS = 10


def write_curves(folder: Path, predictions: Predictions, by_period: pd.DataFrame) -> None:
    """Write the curves that apply: `roc/roc.csv`, and likewise `precision_recall`, `calibration` and `by_period`.

    Parameters
    ----------
    by_period
        As returned by `labkit.model.evaluation.by_period.compute_by_period`; column `model` is the first model's
        metric.
    """
    periods = by_period.reindex(columns=["period", "rows", "true", "prediction", "low", "high", "model"])
    tables = {
        "roc": make_roc(predictions),
        "precision_recall": make_precision_recall(predictions),
        "calibration": make_calibration(predictions),
        "by_period": periods.rename(columns={"model": "value"}),
    }
    for name, table in tables.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        if len(table):
            with atomic_write(folder / name / f"{name}.csv") as beside:
                table.to_csv(beside, index=False, float_format="%.9g", lineterminator="\n")


def find_positives(predictions: Predictions) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a mask of the class of interest and its predicted probabilities, each (n_rows,); None without a curve."""
    # A curve needs two classes that both occur, and finite probabilities.
    if len(predictions.classes) != 2:
        return None
    is_hit, probabilities = predictions.y_true == predictions.positive, predictions.y_proba[:, predictions.positive]
    has_both = is_hit.any() and not is_hit.all()
    return (is_hit, probabilities) if has_both and np.isfinite(probabilities).all() else None


def make_roc(predictions: Predictions) -> pd.DataFrame:
    """Return `false_positive_rate` and `true_positive_rate` of a binary classifier."""
    names, found = ["false_positive_rate", "true_positive_rate"], find_positives(predictions)
    if found is None:
        return pd.DataFrame(columns=names)
    false, true, _ = sk.roc_curve(*found)
    return thin(pd.DataFrame({names[0]: false, names[1]: true}))


def make_precision_recall(predictions: Predictions) -> pd.DataFrame:
    """Return `recall` and `precision` of a binary classifier, in ascending order of recall."""
    found = find_positives(predictions)
    if found is None:
        return pd.DataFrame(columns=["recall", "precision"])
    precision, recall, _ = sk.precision_recall_curve(*found)
    return thin(pd.DataFrame({"recall": recall[::-1], "precision": precision[::-1]}))


def make_calibration(predictions: Predictions) -> pd.DataFrame:
    """Return the means of `prediction` and `true` and the number of `rows` in groups of similar predictions.

    Rows whose prediction or true value is not finite are left out.
    """
    if predictions.classes:
        code = predictions.positive
        predicted, true = predictions.y_proba[:, code], (predictions.y_true == code).astype(float)
    else:
        predicted, true = predictions.y_pred, predictions.y_true
    is_known = np.isfinite(predicted) & np.isfinite(true)
    predicted, true = predicted[is_known], true[is_known]
    with np.errstate(over="ignore"):
        groups = pd.DataFrame({"prediction": predicted, "true": true}).groupby(group_alike(predicted))
        return groups.mean().assign(rows=groups.size()).reset_index(drop=True)


def group_alike(values: np.ndarray) -> np.ndarray:
    """Return a group number per row: at most ten groups of about equal size, with equal values in the same group.

    Parameters
    ----------
    values
        Finite numbers, shape (n_rows,).
    """
    if not len(values):
        return np.zeros(0, int)
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.unique(np.quantile(values, np.linspace(0, 1, N_GROUPS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="left")


def thin(curve: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST_POINTS` points of a curve, including both ends."""
    places = np.unique(np.linspace(0, len(curve) - 1, MOST_POINTS).round().astype(int))
    return curve.iloc[places].reset_index(drop=True)
