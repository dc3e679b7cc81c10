"""Values that a categorical column had in the training rows, stored as digests, so a release reveals no rare value.

The categories that a model distinguishes are in `labkit.features.row_features`.
"""

import hashlib
from collections import Counter
from collections.abc import Collection

import numpy as np

from labkit.features.dictionary import find_dictionary

MOST_VALUES = 10_000
DIGEST_BYTES = 6


def list_digests(values: np.ndarray) -> list[str] | None:
    """Return the digests of the distinct values of a column.

    Parameters
    ----------
    values
        Values of the column, shape (n_rows,).

    Returns
    -------
    list of str or None
        Sorted digests; None if there are more than `MOST_VALUES` distinct values, or if they are not strings.
    """
    if values.dtype != object:
        return None
    distinct = {str(value) for value in values.tolist() if value is not None}
    return sorted(map(make_digest, distinct)) if len(distinct) <= MOST_VALUES else None


def count_unseen(values: np.ndarray, digests: Collection[str]) -> Counter[str]:
    """Count the values of a column that were not in the training rows.

    Parameters
    ----------
    values
        Values of the column, shape (n_rows,).
    digests
        Digests of the values in the training rows.

    Returns
    -------
    Counter
        Rows by unseen value.
    """
    if values.dtype != object:
        return Counter()
    counts, known = count_values(values), {*digests}
    return Counter({value: times for value, times in counts.items() if make_digest(value) not in known})


def count_values(values: np.ndarray) -> Counter[str]:
    """Count the values of a column of strings, without missing ones."""
    if (found := find_dictionary(values)) is None:
        return Counter(str(value) for value in values.tolist() if value is not None)
    counts: Counter[str] = Counter()
    for value, times in zip(found[1].tolist(), np.bincount(found[0], minlength=len(found[1])).tolist(), strict=True):
        if value is not None and times:
            counts[str(value)] += times
    return counts


def make_digest(value: str) -> str:
    """Return a short digest of a value.

    >>> make_digest("red")
    'ba8e1824c194'
    """
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()
