"""Edges of the bins of histograms."""

import numpy as np

from labkit.units import LARGEST_FIXED
from labkit.view.style import find_ends

MOST_BINS, MOST_LEVELS = 60, 32
"""Bins of a histogram at most, and whole numbers up to which each has a bin of its own."""


def make_bins(values: np.ndarray, most: int = MOST_BINS) -> np.ndarray:
    """Return the edges of a histogram's bins, ascending, at least two.

    Their number is that of numpy's `auto`, the larger of Sturges' and of Freedman and Diaconis', but limited: a
    single distant outlier would require billions of bins. Bins of whole numbers each hold equally many of them.

    Parameters
    ----------
    values
        Numbers that can be drawn, shape (n_values,), at least one.
    most
        Largest number of bins.
    """
    quarter, three_quarters = np.quantile(values, [0.25, 0.75])
    width, (low, high) = 2 * (three_quarters - quarter) / len(values) ** (1 / 3), find_ends(values)
    wanted = max(np.log2(len(values)) + 1, (high - low) / width if width > 0 else 0)
    return find_edges(values, int(np.ceil(min(wanted, most))))


def find_edges(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the edges of about `n_bins` equally wide bins, between whole numbers if all values are whole.

    >>> find_edges(np.array([1.0, 2.0, 4.0]), 24), find_edges(np.array([0.0, 0.5]), 1)
    (array([0.5, 1.5, 2.5, 3.5, 4.5]), array([0. , 0.5]))
    """
    low, high = find_ends(values)
    is_whole = len(values) > 0 and high > low and max(abs(low), abs(high)) < LARGEST_FIXED
    if not is_whole or (values != np.round(values)).any():
        return spread_edges(low, high, n_bins)
    step = max(1, int(np.ceil((high - low + 1) / max(n_bins, 1)))) if high - low >= MOST_LEVELS else 1
    return low - 0.5 + step * np.arange(int(np.ceil((high - low + 1) / step)) + 1)


def spread_edges(low: float, high: float, n_bins: int) -> np.ndarray:
    """Return the edges of equally wide bins, or of a single bin if the ends are too close to divide.

    >>> spread_edges(0.0, 4.0, 2), spread_edges(5.0, 5.0, 24)
    (array([0., 2., 4.]), array([2.5, 7.5]))
    """
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-9 * largest, 1e-300):
        reach = max(largest, 1.0) / 2
        return np.array([low - reach, low + reach])
    return np.linspace(low, high, n_bins + 1)
