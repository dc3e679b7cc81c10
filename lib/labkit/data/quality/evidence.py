"""What a target leak is, and how many rows it takes to be sure of one.

Bounds are exact (Clopper and Pearson, 1934), at a level divided by the number of columns and groups tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.01
"""Significance level per table: the probability of calling a legitimate column a sure leak by coincidence."""
FEWEST_ROWS = 20
"""Minimum number of known rows for what one column shows about another, or about its rows, to be evidence."""
FEW_ERRORS = 1 / 6
"""Upper bound of a column's errors for a sure leak, relative to always predicting the largest class."""
SMOOTH = 0.9
"""Minimum share of variance explained for a series to be smooth in its order, and for changes to agree."""


@dataclass(frozen=True)
class Leak:
    """Why a column leaks the target, or may leak it.

    Attributes
    ----------
    kind
        The kind of leak, in a few words.
    evidence
        What was found in the rows examined.
    is_sure
        Whether a legitimate column is very unlikely to look like this.
    """

    kind: str
    evidence: str
    is_sure: bool

    @property
    def reason(self) -> str:
        """Kind and evidence as one phrase."""
        return f"{self.kind}: {self.evidence}"


@dataclass(frozen=True)
class Rows:
    """The target of the rows examined: class codes, or numbers, where it is known."""

    is_known: np.ndarray
    values: np.ndarray
    classes: Sequence[object]
    alpha: float

    @cached_property
    def is_series(self) -> bool:
        """Whether neighbouring rows have similar target values, as in a time series in order."""
        return not self.classes and compute_smoothness(np.arange(len(self.values)), self.values) >= SMOOTH


def make_target_rows(target: pd.Series, task: str, n_columns: int) -> Rows:
    """Return the target in the form that the leak detectors use."""
    is_known = target.notna().to_numpy(copy=True)
    alpha = ALPHA / max(n_columns, 1)
    if task == "regression":
        numbers = target[is_known].to_numpy(dtype="float64")
        is_known[is_known] = np.isfinite(numbers)
        return Rows(is_known, numbers[np.isfinite(numbers)], (), alpha)
    codes, classes = pd.factorize(target[is_known])
    return Rows(is_known, codes, list(classes), alpha)


def compute_smoothness(values: np.ndarray, y_true: np.ndarray) -> float:
    """Return the share of the target's variance that a curve through a column explains, using neighbours only.

    Each row is compared with the straight line between its two neighbours in the order of the column; the residual
    variance is estimated as in Gasser, Sroka and Jennen-Steinmetz (Biometrika, 1986). Negative results are clipped to
    0. Ties are put in random order, because the order of rows in the table is not information from the column.

    >>> bool(compute_smoothness(np.arange(50), np.arange(50) ** 2.0) > 0.9999)
    True
    """
    order = np.lexsort((np.random.default_rng(0).permutation(len(values)), values))
    x, y = values[order].astype("float64"), y_true[order].astype("float64")
    if len(x) < 3 or y.std() == 0:
        return 0.0
    width = x[2:] - x[:-2]
    before = np.divide(x[2:] - x[1:-1], width, out=np.full(len(width), 0.5), where=width > 0)
    after = 1 - before
    left_over = (before * y[:-2] + after * y[2:] - y[1:-1]) ** 2 / (before**2 + after**2 + 1)
    return max(0.0, 1 - float(left_over.mean()) / float(y.var()))


def bound_share(n_hits: int, n_rows: int, alpha: float) -> tuple[float, float]:
    """Return exact confidence bounds of a proportion, each violated with a probability of at most `alpha`.

    >>> [round(bound, 3) for bound in bound_share(0, 30, 0.05)]
    [0.0, 0.095]
    """
    low = stats.beta.ppf(alpha, n_hits, n_rows - n_hits + 1) if n_hits else 0.0
    high = stats.beta.ppf(1 - alpha, n_hits + 1, n_rows - n_hits) if n_hits < n_rows else 1.0
    return float(low), float(high)


def bound_errors(n_wrong: int, codes: np.ndarray, alpha: float) -> float:
    """Return an upper bound of the error rate, relative to that of always predicting the most frequent code."""
    guessing = 1 - np.bincount(codes).max(initial=0) / max(len(codes), 1)
    return float(bound_share(n_wrong, len(codes), alpha)[1] / guessing) if guessing > 0 else np.inf


def floor_percent(share: float) -> str:
    """Return a share as a percentage, truncated and never rounded up.

    >>> floor_percent(0.9649), floor_percent(0.99996), floor_percent(0.5)
    ('96.4 %', '99.99 %', '50 %')
    """
    digits = 100 if share >= 0.999 else 10
    return f"{np.floor(share * 100 * digits + 1e-9) / digits:g} %"
