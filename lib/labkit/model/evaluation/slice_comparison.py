"""Groups of rows on which one of two models predicts better than the other.

Every value range or frequent value of every raw column is tested: the mean difference of the two losses on the same
rows against zero, by a paired t-test whose standard error is that of whole blocks. As many tests find something by
chance, only groups that pass the Benjamini-Hochberg correction are returned (JRSS B, 1995), with intervals adjusted for
the selection (Benjamini and Yekutieli, JASA 2005). The model that wins a group need not be good on it.
"""

import numpy as np
import pandas as pd
from scipy import stats

from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slices import FEWEST_ROWS_OF_SLICE, cut_column
from labkit.params.subject import GENERIC, Subject


def compare_slices(
    frame: pd.DataFrame,
    first: Predictions,
    second: Predictions,
    *,
    confidence: float,
    blocks: Blocks,
    fewest: int = FEWEST_ROWS_OF_SLICE,
    subject: Subject = GENERIC,
) -> pd.DataFrame:
    """Return the groups of rows on which the losses of two models differ beyond random variation.

    Parameters
    ----------
    frame
        Raw rows, shape (n_rows, n_columns); time columns are ignored.
    first, second
        Predictions of these rows.
    confidence
        One minus the accepted false discovery rate.
    blocks
        Blocks of rows that are not independent of each other.
    fewest
        Smallest number of rows of a group.
    subject
        Units of the columns: times of a day are shown as such.

    Returns
    -------
    pandas.DataFrame
        Largest difference first: `slice` in words, number of `rows` and their `places`, mean loss of the `first` and of
        the `second`, and `gain`, `low`, `high`: by how much the loss of the first is smaller, with its interval.
    """
    ours, theirs = compute_losses(first), compute_losses(second)
    columns = ["slice", "rows", "places", "first", "second", "gain", "low", "high"]
    lines = []
    for name in frame:
        bins = cut_column(str(name), frame[name], subject)
        for code, condition in enumerate(bins.conditions):
            rows = np.flatnonzero(bins.codes == code)
            found = measure_difference(theirs[rows] - ours[rows], blocks.take(rows)) if len(rows) >= fewest else None
            if found is not None:
                lines.append((condition, len(rows), rows, ours[rows].mean(), theirs[rows].mean(), *found))
    tested = pd.DataFrame(lines, columns=[*columns[:6], "error", "freedom", "p_value"])
    tested = adjust_for_selection(tested, tested["gain"], alpha=1 - confidence)
    kept = tested[tested["is_certain"]]
    order = kept["gain"].abs().sort_values(ascending=False, kind="stable").index
    return kept.loc[order, columns].reset_index(drop=True)


def adjust_for_selection(tested: pd.DataFrame, difference: pd.Series, *, alpha: float) -> pd.DataFrame:
    """Return tested groups, the smallest p-value first, with `is_certain`, `low` and `high`; see the module.

    The intervals of all groups are as wide as those of the ones that pass, so an interval excludes 0 only where the
    difference passes.

    Parameters
    ----------
    tested
        A line per group: `error`, `freedom` and the two-sided `p_value`.
    difference
        The difference tested in each group.
    alpha
        Accepted false discovery rate.
    """
    ordered = tested.sort_values("p_value", kind="stable")
    n_tests = max(len(ordered), 1)
    passed = np.flatnonzero(ordered["p_value"] <= alpha * np.arange(1, len(ordered) + 1) / n_tests)
    n_passed = int(passed[-1]) + 1 if len(passed) else 0
    reach = ordered["error"] * stats.t.isf(alpha * max(n_passed, 1) / n_tests / 2, ordered["freedom"].astype(float))
    difference = difference.loc[ordered.index]
    return ordered.assign(
        is_certain=np.arange(len(ordered)) < n_passed, low=difference - reach, high=difference + reach
    )


def measure_difference(difference: np.ndarray, blocks: Blocks) -> tuple[float, float, float, float] | None:
    """Return mean, standard error, degrees of freedom and p-value; None if the mean has no error."""
    # Groups without any difference are tests too: the correction for their number counts them.
    mean, error = float(difference.mean()), blocks.compute_error(difference)
    freedom = len(np.unique(blocks.merge_runs())) - 1
    if not np.isfinite(error):
        return None
    return mean, error, freedom, 2 * float(stats.t.sf(abs(mean) / max(error, 1e-300), freedom))
