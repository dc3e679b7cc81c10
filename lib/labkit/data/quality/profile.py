"""Profile a table, column by column.

Nothing is changed here. Data-quality issues are found in `labkit.data.quality.issues`.
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
from labkit.features.table_columns import find_column_kind, is_numeric
from labkit.params.tables import Target

MOST_ROWS = 20_000


MOST_VALUES = 4_000_000
"""Maximum number of values scored against the target: wide tables are scored on fewer rows."""


MOST_EXACT = 200
"""Maximum number of columns for pairwise rank correlations, each computed on the rows that have both values."""


LARGEST_SQUARED = 1e150


LEAK_SCORE = 0.95


MANY_MISSING = 0.3


N_FOLDS = 3


FEWEST_ROWS_TO_SCORE = 6


def profile_table(frame: pd.DataFrame, target: Target, *, seed: int, zone: str = "UTC") -> pd.DataFrame:
    """Describe every column of a joined table.

    Parameters
    ----------
    zone
        Time zone of the smallest and largest times.

    Returns
    -------
    pandas.DataFrame
        One row per column: `column`, `kind`, `missing_share`, `distinct`, `smallest`, `largest` (strings), `mean`,
        `most_common`, `score` (see `score_column`; NaN for the target itself), `set_aside` (empty, see
        `labkit.data.quality.issues.set_aside`).

    Raises
    ------
    DataError
        The target of a regression is not numeric.
    """
    if target.task == "regression" and not is_numeric(frame[target.column]):
        known = frame[target.column].dropna()
        found = repr(known.iloc[0]) if len(known) else "nothing"
        raise DataError(
            f"target {target.column!r} holds {found}, not numbers: set data.target.task: classification, or fix it"
        )
    n_rows = count_scored(frame)
    sample = frame if n_rows == len(frame) else frame.sample(n_rows, random_state=seed).sort_index()
    lines = [profile_column(frame[name], zone=zone) for name in frame.columns]
    profile = pd.DataFrame(lines)
    outcomes = sample[target.column]
    known = outcomes.notna()
    profile["score"] = [
        np.nan
        if name == target.column
        else score_column(sample.loc[known, name], outcomes[known], target.task, seed=seed)
        for name in frame.columns
    ]
    profile = profile.assign(set_aside="")
    profile.attrs["target"] = target.column
    return profile


def count_scored(frame: pd.DataFrame) -> int:
    """Return how many rows of a table are drawn to measure what columns explain: all of a small one."""
    return min(len(frame), int(np.clip(MOST_VALUES // max(frame.shape[1], 1), 1000, MOST_ROWS)))


def profile_column(values: pd.Series, *, zone: str = "UTC") -> dict[str, Any]:
    """Describe one column without regard to the target."""
    kind, known = find_column_kind(values), values.dropna()
    ordered = kind in ("number", "time") and len(known) > 0
    common = known.mode()
    return {
        "column": str(values.name),
        "kind": kind,
        "missing_share": float(values.isna().mean()) if len(values) else 0.0,
        "distinct": int(known.nunique()),
        "smallest": show_end(known.min(), zone) if ordered else "",
        "largest": show_end(known.max(), zone) if ordered else "",
        "mean": compute_mean(known) if kind == "number" else np.nan,
        "most_common": str(common.iloc[0]) if len(common) else "",
    }


def show_end(value: Any, zone: str = "UTC") -> str:
    """Return the smallest or largest value of a column as a string; times in a zone, those without one as they are.

    >>> show_end(66.0), show_end(983.8), show_end(pd.Timestamp("2013-01-01 10:15", tz="UTC"), "America/New_York")
    ('66', '983.8', '2013-01-01 05:15 EST')
    >>> show_end(pd.Timestamp("2013-01-01 10:15"), "America/New_York")
    '2013-01-01 10:15'
    """
    if isinstance(value, pd.Timestamp):
        return f"{value.tz_convert(zone):%Y-%m-%d %H:%M %Z}" if value.tzinfo else f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.10g}" if isinstance(value, int | float | np.number) else str(value)


def compute_mean(known: pd.Series) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    numbers = known.to_numpy(dtype="float64")
    finite = numbers[np.isfinite(numbers)]
    with np.errstate(over="ignore", invalid="ignore"):
        return float(finite.mean()) if len(finite) else np.nan


def score_column(values: pd.Series, outcomes: pd.Series, task: str, *, seed: int) -> float:
    """Return the share of the target's uncertainty that one column alone explains on held-out rows.

    The score of a small decision tree on that column, cross-validated in three folds: R² for regression, and for
    classification the reduction in log loss relative to predicting the class frequencies (McFadden's R²). At least 0;
    NaN if there are too few rows.
    """
    held_out = predict_held_out(values, outcomes, task, seed=seed)
    if held_out is None:
        return np.nan
    y_true, predicted = held_out
    if task == "regression":
        return max(0.0, float(r2_score(y_true, predicted)))
    shares = np.bincount(y_true) / len(y_true)
    uncertainty = -float((shares * np.log(shares)).sum())
    # Leaves with few rows are overconfident, so probabilities are shrunk slightly towards the class frequencies.
    drawn = np.clip(0.95 * predicted + 0.05 * shares, 1e-3, 1)
    loss = log_loss(y_true, drawn / drawn.sum(axis=1, keepdims=True), labels=range(len(shares)))
    return max(0.0, 1 - loss / uncertainty)


def predict_held_out(
    values: pd.Series, outcomes: pd.Series, task: str, *, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Predict the target from one column, each row with a tree that was fitted without it.

    Categories are encoded as the mean target of their rows in the other folds (scikit-learn's `TargetEncoder`), because
    a tree cannot use the order of words.

    Returns
    -------
    tuple of numpy.ndarray or None
        True values or class codes, shape (n_rows,), and predicted values, shape (n_rows,), or probabilities, shape
        (n_rows, n_classes). Rows of classes too small for every fold, and rows with an infinite target, are left out.
        Very large regression targets are rescaled. None if there are too few rows or only one class.
    """
    kind = find_column_kind(values)
    is_category = kind == "category"
    # Times are ordered by value, like numbers.
    codes = values if kind == "number" else pd.Series(pd.factorize(values, sort=kind == "time")[0])
    # Trees compute in float32 and accept missing values, but not infinite ones.
    with np.errstate(over="ignore"):
        column = codes.to_numpy(dtype="float64", na_value=np.nan).astype("float32").reshape(-1, 1)
    column[np.isinf(column)] = np.nan
    leaf = max(5, len(column) // 20)
    if task == "regression":
        is_finite = np.isfinite(outcomes.to_numpy(dtype="float64"))
        column, y_true = column[is_finite], outcomes.to_numpy(dtype="float64")[is_finite]
        # R² does not depend on the unit, but squares of very large targets overflow.
        largest = float(np.abs(y_true).max(initial=0))
        y_true = y_true / largest if largest > LARGEST_SQUARED else y_true
        tree = DecisionTreeRegressor(max_depth=4, min_samples_leaf=leaf, random_state=seed)
        folds = KFold(N_FOLDS, shuffle=True, random_state=seed)
    else:
        is_common = (outcomes.groupby(outcomes, observed=True).transform("size") >= N_FOLDS).to_numpy()
        column, y_true = column[is_common], pd.factorize(outcomes[is_common], sort=True)[0]
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=leaf, random_state=seed)
        folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    n_classes = 0 if task == "regression" else y_true.max(initial=-1) + 1
    if len(y_true) < FEWEST_ROWS_TO_SCORE or n_classes == 1:
        return None
    model = make_pipeline(TargetEncoder(cv=folds), tree) if is_category else tree
    method = "predict" if task == "regression" else "predict_proba"
    with warnings.catch_warnings():
        # A class with few rows may be missing from a fold of the encoder, which then uses the mean of all rows.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return y_true, cross_val_predict(model, column, y_true, cv=folds, method=method)


def find_pairs(frame: pd.DataFrame, least: float) -> list[tuple[str, str, float]]:
    """Return pairs of numeric columns with an absolute rank correlation of at least `least`, strongest first."""
    numbers = frame[[name for name in frame.columns if find_column_kind(frame[name]) == "number"]]
    sample = numbers if len(numbers) <= MOST_ROWS else numbers.iloc[:: len(numbers) // MOST_ROWS + 1]
    matrix = sample.corr(method="spearman").to_numpy() if numbers.shape[1] <= MOST_EXACT else correlate_ranks(sample)
    first, second = np.where(np.triu(np.abs(matrix) >= least, k=1))
    names = list(numbers.columns)
    pairs = [(str(names[a]), str(names[b]), float(matrix[a, b])) for a, b in zip(first, second, strict=True)]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def correlate_ranks(frame: pd.DataFrame) -> np.ndarray:
    """Return rank correlations of all columns, shape (n_columns, n_columns); missing values get the mean rank."""
    ranks = frame.rank()
    centred = (ranks - ranks.mean()).fillna(0).to_numpy()
    length = np.sqrt((centred**2).sum(axis=0))
    unit = centred / np.where(length > 0, length, np.inf)
    return np.asarray(unit.T @ unit)
