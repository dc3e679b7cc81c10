"""Which values a column of categories had in the training rows, kept as digests: a release names no rare value.

Not which categories a model tells apart: those are in `labkit.features.row_features`.
"""

import hashlib
from collections import Counter
from collections.abc import Collection

import numpy as np

MOST_VALUES = 10_000
DIGEST_BYTES = 6


def list_digests(values: np.ndarray) -> list[str] | None:
    """Return the digests of the different values of a column, sorted; None if there are too many, or no strings."""
    if values.dtype != object:
        return None
    distinct = {str(value) for value in values.tolist() if value is not None}
    return sorted(map(make_digest, distinct)) if len(distinct) <= MOST_VALUES else None


def count_unseen(values: np.ndarray, digests: Collection[str]) -> Counter[str]:
    """Return the values of a column that are not among those with these digests, each with its rows."""
    if values.dtype != object:
        return Counter()
    counts, known = Counter(str(value) for value in values.tolist() if value is not None), {*digests}
    return Counter({value: times for value, times in counts.items() if make_digest(value) not in known})


def make_digest(value: str) -> str:
    """Return a short digest of a value.

    >>> make_digest("red")
    'ba8e1824c194'
    """
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()
