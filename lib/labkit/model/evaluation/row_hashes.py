"""Hashes of rows, by which a model shows which rows it was fitted on.

A row is identified by its number in the main raw table and its true value, not by its inputs: two rows that happen to
be alike are two rows.
"""

import numpy as np
import pandas as pd

from labkit.params.tables import Target

ATTRIBUTE = "row_hashes_"
"""Name under which a fitted pipeline keeps the hashes of the rows that it was fitted on."""


def hash_rows(y_true: pd.Series, target: Target) -> np.ndarray:
    """Return the hash of each row, 64-bit unsigned integers in ascending order, shape (n_rows,).

    Parameters
    ----------
    y_true
        True values, indexed by row number.
    """
    values = y_true.astype("float64") if target.task == "regression" else y_true.astype("str")
    numbered = pd.Series(values.to_numpy(), index=y_true.index)
    return np.sort(pd.util.hash_pandas_object(numbered, index=True).to_numpy(dtype="uint64"))


def count_shared(fitted: np.ndarray, rows: np.ndarray) -> int:
    """Return how many rows are among those that a model was fitted on.

    Parameters
    ----------
    fitted, rows
        As returned by `hash_rows`.
    """
    return int(np.isin(rows, fitted).sum())
