"""What a model relies on: the mean size of the contributions of each column to the predictions of many rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.model.evaluation.blocks import Blocks
from labkit.model.explanation.shapley import Explanation, count_explaining_rows

MOST_VALUES = 100_000_000
"""Values of raw columns that may be predicted from: with many columns, fewer rows are explained."""
FEWEST_ROWS = 10


def draw_explained_places(n_rows: int, *, most: int, n_background: int, n_columns: int, seed: int) -> np.ndarray:
    """Return the places of the rows to explain, drawn at random, ascending.

    Parameters
    ----------
    n_rows
        Rows to draw from.
    most
        Rows to draw; all if there are fewer, and fewer if `MOST_VALUES` would be exceeded.

    Examples
    --------
    >>> draw_explained_places(1000, most=200, n_background=20, n_columns=26, seed=0).size
    200
    >>> draw_explained_places(1000, most=200, n_background=20, n_columns=1000, seed=0).size
    24
    """
    values = count_explaining_rows(n_background, n_columns) * n_columns
    n_drawn = min(n_rows, max(min(most, FEWEST_ROWS), min(most, MOST_VALUES // values)))
    return np.sort(np.random.default_rng(seed).choice(n_rows, n_drawn, replace=False))


def measure_sizes(explanations: Sequence[Explanation]) -> np.ndarray:
    """Return the size of the contribution of each column to each prediction, shape (n_rows, n_columns).

    The absolute value; of several classes, the mean over the classes.
    """
    return np.abs([one.contributions for one in explanations]).mean(axis=2)


def summarize_contributions(explanations: Sequence[Explanation], *, confidence: float, blocks: Blocks) -> pd.DataFrame:
    """Return how much each column contributes on average, the largest first.

    Parameters
    ----------
    blocks
        Blocks of the explained rows; the length of runs of days is fitted to the sizes of each column.

    Returns
    -------
    pandas.DataFrame
        `column`; `size`, the mean size of its contributions; `low` and `high`, the interval for other rows, NaN with
        too few independent rows; `share` of the sum of all sizes, NaN if nothing contributes.
    """
    sizes = measure_sizes(explanations)
    means = sizes.mean(axis=0)
    reach = np.array([blocks.fit_length(column).compute_reach(column, confidence) for column in sizes.T])
    total = means.sum()
    frame = pd.DataFrame(
        {
            "column": explanations[0].columns,
            "size": means,
            "low": np.maximum(means - reach, 0),
            "high": means + reach,
            "share": means / total if total > 0 else np.nan,
        }
    )
    return frame.sort_values("size", ascending=False, kind="stable", ignore_index=True)
