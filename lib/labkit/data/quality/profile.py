"""What a table is like, column by column.

Describes; changes nothing. What looks wrong with it is found in `labkit.data.quality.issues`.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from labkit.errors import DataError
from labkit.features.table_columns import find_column_kind
from labkit.params.tables import Target

MOST_ROWS = 20_000


MOST_VALUES = 4_000_000
"""Values of a table that are scored against the target: fewer rows of it where there are many columns."""


MOST_EXACT = 200
"""Columns up to which rank correlations are computed pair by pair, each on the rows that have both values."""


LARGEST_SQUARED = 1e150


LEAK_SCORE = 0.95


MANY_MISSING = 0.3


N_FOLDS = 3


FEWEST_ROWS = 6


def profile_table(frame: pd.DataFrame, target: Target, *, seed: int) -> pd.DataFrame:
    """Describe every column of a joined table.

    Returns
    -------
    pandas.DataFrame
        One row per column: `column`, `kind`, `missing_share`, `distinct`, `smallest`, `largest` (texts), `mean`,
        `most_common`, `score` (see `score_column`; missing for the target itself).

    Raises
    ------
    DataError
        The target of a regression holds no numbers.
    """
    if target.task == "regression" and not pd.api.types.is_numeric_dtype(frame[target.column]):
        known = frame[target.column].dropna()
        found = repr(known.iloc[0]) if len(known) else "nothing"
        raise DataError(
            f"target {target.column!r} holds {found}, not numbers: set data.target.task: classification, or fix it"
        )
    most_rows = int(np.clip(MOST_VALUES // max(frame.shape[1], 1), 1000, MOST_ROWS))
    sample = frame if len(frame) <= most_rows else frame.sample(most_rows, random_state=seed).sort_index()
    lines = [profile_column(frame[name]) for name in frame.columns]
    profile = pd.DataFrame(lines)
    answers = sample[target.column]
    known = answers.notna()
    profile["score"] = [
        np.nan
        if name == target.column
        else score_column(sample.loc[known, name], answers[known], target.task, seed=seed)
        for name in frame.columns
    ]
    profile.attrs["target"] = target.column
    return profile


def profile_column(values: pd.Series) -> dict[str, Any]:
    """Describe one column without regard to the target."""
    kind, known = find_column_kind(values), values.dropna()
    ordered = kind in ("number", "time") and len(known) > 0
    common = known.mode()
    return {
        "column": str(values.name),
        "kind": kind,
        "missing_share": float(values.isna().mean()) if len(values) else 0.0,
        "distinct": int(known.nunique()),
        "smallest": str(known.min()) if ordered else "",
        "largest": str(known.max()) if ordered else "",
        "mean": compute_mean(known) if kind == "number" else np.nan,
        "most_common": str(common.iloc[0]) if len(common) else "",
    }


def compute_mean(known: pd.Series) -> float:
    """Return the mean of the finite numbers among those that are there; NaN if there are none."""
    numbers = known.to_numpy(dtype="float64")
    finite = numbers[np.isfinite(numbers)]
    with np.errstate(over="ignore", invalid="ignore"):
        return float(finite.mean()) if len(finite) else np.nan


def score_column(values: pd.Series, answers: pd.Series, task: str, *, seed: int) -> float:
    """Return the share of the target's uncertainty that one column alone explains, on rows it was not fitted on.

    A small decision tree on that column, cross-validated in three folds: the share of variance explained (R²) for
    regression, of log loss below that of the classes' shares for classification (McFadden's R²). At least 0; NaN where
    there are too few rows to tell.
    """
    held_out = predict_held_out(values, answers, task, seed=seed)
    if held_out is None:
        return np.nan
    y_true, predicted = held_out
    if task == "regression":
        return max(0.0, float(r2_score(y_true, predicted)))
    shares = np.bincount(y_true) / len(y_true)
    uncertainty = -float((shares * np.log(shares)).sum())
    # A leaf of few rows is not as sure as it looks: its probabilities are drawn a little towards the classes' shares.
    drawn = np.clip(0.95 * predicted + 0.05 * shares, 1e-3, 1)
    loss = log_loss(y_true, drawn / drawn.sum(axis=1, keepdims=True), labels=range(len(shares)))
    return max(0.0, 1 - loss / uncertainty)


def predict_held_out(
    values: pd.Series, answers: pd.Series, task: str, *, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Predict the target from one column, each row by a tree that was fitted without it.

    A category stands for the mean target of its rows in the other folds (scikit-learn's `TargetEncoder`), because the
    order of words means nothing to a tree.

    Returns
    -------
    tuple of numpy.ndarray or None
        True numbers, or codes of the classes, shape (n_rows,); predicted numbers, or probabilities, shape (n_rows,
        n_classes). Rows of classes that cannot stand in every fold, and of infinite targets, are left out; None where
        there are too few rows.
    """
    kind = find_column_kind(values)
    is_category = kind == "category"
    # Times count in the order of their values, as numbers do.
    codes = values if kind == "number" else pd.Series(pd.factorize(values, sort=kind == "time")[0])
    # Trees compute in float32 and take missing values, but no infinite ones.
    with np.errstate(over="ignore"):
        column = codes.to_numpy(dtype="float64", na_value=np.nan).astype("float32").reshape(-1, 1)
    column[np.isinf(column)] = np.nan
    leaf = max(5, len(column) // 20)
    if task == "regression":
        is_finite = np.isfinite(answers.to_numpy(dtype="float64"))
        column, y_true = column[is_finite], answers.to_numpy(dtype="float64")[is_finite]
        # The share does not depend on the unit, but squares of very large answers overflow.
        largest = float(np.abs(y_true).max(initial=0))
        y_true = y_true / largest if largest > LARGEST_SQUARED else y_true
        tree = DecisionTreeRegressor(max_depth=4, min_samples_leaf=leaf, random_state=seed)
        folds = KFold(N_FOLDS, shuffle=True, random_state=seed)
    else:
        is_common = (answers.groupby(answers, observed=True).transform("size") >= N_FOLDS).to_numpy()
        column, y_true = column[is_common], pd.factorize(answers[is_common], sort=True)[0]
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=leaf, random_state=seed)
        folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    n_classes = 0 if task == "regression" else y_true.max(initial=-1) + 1
    if len(y_true) < FEWEST_ROWS or n_classes == 1:
        return None
    model = make_pipeline(TargetEncoder(cv=folds), tree) if is_category else tree
    method = "predict" if task == "regression" else "predict_proba"
    with warnings.catch_warnings():
        # A class of a few rows may be missing from a fold of the encoder, which then takes the mean of all rows.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return y_true, cross_val_predict(model, column, y_true, cv=folds, method=method)


def find_pairs(frame: pd.DataFrame, least: float) -> list[tuple[str, str, float]]:
    """Return the pairs of number columns whose absolute rank correlation is at least `least`, strongest first."""
    numbers = frame.select_dtypes("number")
    sample = numbers if len(numbers) <= MOST_ROWS else numbers.iloc[:: len(numbers) // MOST_ROWS + 1]
    matrix = sample.corr(method="spearman").to_numpy() if numbers.shape[1] <= MOST_EXACT else correlate_ranks(sample)
    first, second = np.where(np.triu(np.abs(matrix) >= least, k=1))
    names = list(numbers.columns)
    pairs = [(str(names[a]), str(names[b]), float(matrix[a, b])) for a, b in zip(first, second, strict=True)]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def correlate_ranks(frame: pd.DataFrame) -> np.ndarray:
    """Return rank correlations of many columns at once, shape (n_columns, n_columns); a gap counts as a middle rank."""
    ranks = frame.rank()
    centred = (ranks - ranks.mean()).fillna(0).to_numpy()
    length = np.sqrt((centred**2).sum(axis=0))
    unit = centred / np.where(length > 0, length, np.inf)
    return np.asarray(unit.T @ unit)
