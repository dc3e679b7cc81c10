"""What a leak of the target is, and when rows are enough to be sure of one.

Bounds are exact (Clopper and Pearson, 1934), at a level that is divided by the number of columns and groups tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.01
"""Probability with which at most one honest column of a table is called a sure leak by coincidence."""
FEW_ERRORS = 1 / 6
"""Errors of a column by itself, as a share of those of always naming the largest class, that rows have to make sure."""


@dataclass(frozen=True)
class Leak:
    """Why a column leaks the target, or may do so.

    Attributes
    ----------
    kind
        What it is, in a few words.
    evidence
        What was seen in the rows looked at.
    is_sure
        Whether an honest column would hardly look like this.
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
    """The target of the rows looked at: codes of its classes, or numbers, where it is known."""

    is_known: np.ndarray
    values: np.ndarray
    classes: Sequence[object]
    alpha: float


def make_rows(target: pd.Series, task: str, n_columns: int) -> Rows:
    """Return the target as the rules take it."""
    is_known = target.notna().to_numpy(copy=True)
    alpha = ALPHA / max(n_columns, 1)
    if task == "regression":
        numbers = target[is_known].to_numpy(dtype="float64")
        is_known[is_known] = np.isfinite(numbers)
        return Rows(is_known, numbers[np.isfinite(numbers)], (), alpha)
    codes, classes = pd.factorize(target[is_known])
    return Rows(is_known, codes, list(classes), alpha)


def bound_share(n_hits: int, n_rows: int, alpha: float) -> tuple[float, float]:
    """Return the exact bounds of a share, each missed with a probability of at most `alpha`.

    >>> [round(bound, 3) for bound in bound_share(0, 30, 0.05)]
    [0.0, 0.095]
    """
    low = stats.beta.ppf(alpha, n_hits, n_rows - n_hits + 1) if n_hits else 0.0
    high = stats.beta.ppf(1 - alpha, n_hits + 1, n_rows - n_hits) if n_hits < n_rows else 1.0
    return float(low), float(high)


def bound_errors(n_wrong: int, codes: np.ndarray, alpha: float) -> float:
    """Return an upper bound of the share of errors, as a multiple of that of always naming the most frequent code."""
    guessing = 1 - np.bincount(codes).max(initial=0) / max(len(codes), 1)
    return float(bound_share(n_wrong, len(codes), alpha)[1] / guessing) if guessing > 0 else np.inf


def format_share(share: float) -> str:
    """Return a share in percent, cut off and never rounded up.

    >>> format_share(0.9649), format_share(0.99996), format_share(0.5)
    ('96.4 %', '99.99 %', '50 %')
    """
    digits = 100 if share >= 0.999 else 10
    return f"{np.floor(share * 100 * digits + 1e-9) / digits:g} %"
