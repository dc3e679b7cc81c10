"""Effect sizes: by how much windows of rows differ from a reference, whatever their number of rows.

All functions take counts of several windows at once, each with a reference of its own, because each window of the
reference is compared with the reference without itself.
"""

import numpy as np


def compute_wasserstein(
    cells: np.ndarray,
    tails: np.ndarray,
    reference: np.ndarray,
    reference_tails: np.ndarray,
    *,
    edges: np.ndarray,
    sd: float,
    is_discrete: bool = False,
) -> np.ndarray:
    """Return the Wasserstein distance of numbers in standard deviations of the reference, shape (n_windows,).

    The area between both distribution functions: known exactly at the edges, interpolated between them, and by the sums
    of the distances beyond them.

    Parameters
    ----------
    cells, reference
        Rows per cell, shape (n_windows, n_edges + 1).
    tails, reference_tails
        Sums beyond the lowest and the highest edge, shape (n_windows, 2).
    is_discrete
        Whether no numbers lie between the edges.

    Examples
    --------
    >>> no_tails = np.zeros((1, 2))
    >>> window, reference = np.array([[0, 5, 5]]), np.array([[0, 8, 2]])
    >>> compute_wasserstein(window, no_tails, reference, no_tails, edges=np.array([0.0, 1.0]), sd=0.4, is_discrete=True)
    array([0.75])
    """
    if sd <= 0 or not len(edges):
        return np.zeros(len(cells))
    n_rows, n_reference = (np.maximum(one.sum(axis=1, keepdims=True), 1) for one in (cells, reference))
    between = np.abs(np.cumsum(cells, axis=1) / n_rows - np.cumsum(reference, axis=1) / n_reference)[:, :-1]
    heights = between[:, 1:] if is_discrete else (between[:, 1:] + between[:, :-1]) / 2
    beyond = np.abs(tails / n_rows - reference_tails / n_reference).sum(axis=1)
    return np.asarray(((heights * np.diff(edges)).sum(axis=1) + beyond) / sd)


def compute_changed_share(cells: np.ndarray) -> np.ndarray:
    """Return the share of the known numbers that differ from the only one of the reference, shape (n_windows,).

    Parameters
    ----------
    cells
        Rows below, at and above that number, shape (n_windows, 3).
    """
    return np.asarray(1 - cells[:, 1] / np.maximum(cells.sum(axis=1), 1))


def compute_jensen_shannon(cells: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon distance of categories, 0 to 0.83, shape (n_windows,).

    The square root of the divergence with natural logarithms (Endres and Schindelin, A new metric for probability
    distributions, 2003), as `scipy.spatial.distance.jensenshannon`.

    Examples
    --------
    >>> compute_jensen_shannon(np.array([[5, 5], [10, 0]]), np.array([[5, 5], [0, 10]])).round(3)
    array([0.   , 0.833])
    """
    first, second = (one / np.maximum(one.sum(axis=1, keepdims=True), 1) for one in (cells, reference))
    middle = (first + second) / 2
    divergence = np.zeros(len(cells))
    for share in (first, second):
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = share * np.log(share / middle)
        divergence += np.where(share > 0, terms, 0.0).sum(axis=1) / 2
    return np.sqrt(np.maximum(divergence, 0.0))


def compute_share_change(shares: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the change of shares as the difference of arcsin of their square roots, shape (n_windows,).

    Half of Cohen's h (Statistical Power Analysis, 1988, chapter 6): unlike a ratio it is defined for 0, unlike a
    difference it takes 0.00 to 0.01 for more than 0.50 to 0.51.
    """
    return np.asarray(np.abs(np.arcsin(np.sqrt(shares)) - np.arcsin(np.sqrt(reference))))


def compute_unseen_share(cells: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the share of the known values that the reference does not have, shape (n_windows,)."""
    known = np.maximum(cells.sum(axis=1), 1)
    return np.asarray(np.where(reference == 0, cells, 0).sum(axis=1) / known)


def compute_volume_change(rows: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the absolute logarithm of the ratio of the rows to those expected, shape (n_windows,); infinite for 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.abs(np.log(rows / np.maximum(expected, 1))))
