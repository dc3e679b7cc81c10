"""How predictions change with one column: partial dependence.

The mean prediction of some rows if all had the same value of the column and kept their other values (Friedman, Greedy
Function Approximation, Annals of Statistics 29, 2001).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from labkit.model.evaluation.blocks import Blocks
from labkit.model.explanation.shapley import Columns

MOST_NUMBERS, MOST_CATEGORIES = 20, 8
"""Numbers at most that a column is set to, and other values at most."""
ENDS = (0.02, 0.98)
"""Quantiles between which numbers lie: beyond them are too few rows to learn from."""
SMALLEST_SHARE = 0.01
"""Share of the rows that a value must have to be shown, if it is no number."""


def compute_dependence(
    predict: Callable[[Columns], np.ndarray],
    rows: Columns,
    name: str,
    values: np.ndarray,
    *,
    confidence: float,
    blocks: Blocks,
) -> pd.DataFrame:
    """Return the mean prediction of rows with each of some values of a column.

    Parameters
    ----------
    predict
        Returns predictions of raw columns, shape (n_rows,) or (n_rows, n_outputs).
    rows
        The rows' columns, arrays of shape (n_rows,).
    values
        As `choose_values` returns them.
    blocks
        Blocks of the rows; the length of runs of days is fitted to the changes with each value.

    Returns
    -------
    pandas.DataFrame
        A line for each value and output: `value`, `output`, its place; `mean`, the mean prediction; `low` and `high`,
        the interval of the difference from the mean prediction of the same rows as they are, added to that mean. NaN
        with too few independent rows.
    """
    n_rows, n_values = len(rows[name]), len(values)
    repeated = {one: np.tile(column, n_values) for one, column in rows.items()}
    repeated[name] = np.repeat(values, n_rows).astype(rows[name].dtype)
    predicted = np.asarray(predict(repeated), "float64").reshape(n_values, n_rows, -1)
    usual = np.asarray(predict(rows), "float64").reshape(n_rows, -1)
    lines = []
    for place, output in np.ndindex(n_values, usual.shape[1]):
        changes = predicted[place, :, output] - usual[:, output]
        mean, reach = (
            float(predicted[place, :, output].mean()),
            blocks.fit_length(changes).compute_reach(changes, confidence),
        )
        lines.append(
            {"value": values[place], "output": output, "mean": mean, "low": mean - reach, "high": mean + reach}
        )
    return pd.DataFrame(lines)


def choose_values(column: pd.Series, kind: str) -> np.ndarray:
    """Return the values that a column is set to: quantiles of numbers, else the most frequent values; none for times.

    Parameters
    ----------
    column
        The column of all rows that values are chosen from.
    kind
        Its kind, see `labkit.features.table_columns.find_column_kind`.

    Examples
    --------
    >>> choose_values(pd.Series([1.0, 1.0, 2.0, 4.0]), "number").tolist()
    [1.0, 2.0, 4.0]
    >>> choose_values(pd.Series(["b", "a", "b"]), "category").tolist()
    ['b', 'a']
    """
    if kind == "number":
        numbers = column.to_numpy("float64", na_value=np.nan)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return np.array([])
        distinct = np.unique(numbers)
        if len(distinct) <= MOST_NUMBERS:
            return distinct
        return np.unique(np.quantile(numbers, np.linspace(*ENDS, MOST_NUMBERS), method="nearest"))
    if kind == "time":
        return np.array([], dtype=object)
    counts = column.astype(object).value_counts()
    kept = counts[counts >= SMALLEST_SHARE * len(column)].head(MOST_CATEGORIES)
    values = np.empty(len(kept), dtype=object)
    values[:] = kept.index.tolist()
    return values


def compute_dependences(
    predict: Callable[[Columns], np.ndarray],
    rows: Columns,
    values: Mapping[str, np.ndarray],
    *,
    most: int,
    **options: Any,
) -> dict[str, pd.DataFrame]:
    """Return the dependence on the first columns that have several values, by column.

    Parameters
    ----------
    values
        Values by column, the most important column first.
    most
        Number of columns.
    options
        See `compute_dependence`.
    """
    several = [name for name, found in values.items() if len(found) > 1][:most]
    return {name: compute_dependence(predict, rows, name, values[name], **options) for name in several}
