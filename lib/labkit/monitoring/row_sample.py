"""A bounded sample of rows by window, as numbers: what a domain classifier needs of the reference and of the rows now.

Categories are positions of their digests among those of the reference, so the sample holds no string of the data. Each
window keeps at most as many rows as the others, drawn at random in one pass whatever its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labkit.features.known_values import make_digest
from labkit.monitoring.row_batches import Coded, Column
from labkit.monitoring.window_counts import NO_WINDOW, Cells, take_rows

MOST_KEPT = 1_000_000
"""Most values of a sample: 4 MB before compression, so a table of 1,000 columns keeps 1,000 rows at most."""


@dataclass(frozen=True)
class RowSample:
    """Some rows of each window.

    Attributes
    ----------
    values
        One column for each of the layout's, in its order, shape (n_rows, n_columns): numbers, or positions of
        categories, those that the reference does not have after all others; NaN is missing.
    numbers
        Number of each row's window, ascending, shape (n_rows,).
    quota
        Most rows of a window.
    """

    values: np.ndarray
    numbers: np.ndarray
    quota: int

    def take(self, rows: np.ndarray) -> "RowSample":
        """Return some of the rows, given by a mask or by positions."""
        return RowSample(self.values[rows], self.numbers[rows], self.quota)


class Sampler:
    """Draws rows of each window from batches.

    Parameters
    ----------
    layout
        Cells by column.
    quota
        Most rows of a window, at least 1.
    """

    def __init__(self, layout: Mapping[str, Cells], quota: int, *, seed: int) -> None:
        self.layout, self.quota, self.random = dict(layout), quota, np.random.default_rng(seed)
        self.index = {
            name: {digest: place for place, digest in enumerate(one.values)}
            for name, one in layout.items()
            if one.kind == "category"
        }
        self.keys, self.numbers = np.empty(0), np.empty(0, "int64")
        self.values = np.empty((0, len(layout)), "float32")
        self.limits: dict[int, float] = {}

    def add(self, columns: Mapping[str, Column], windows: np.ndarray) -> None:
        """Add the rows of a batch: a window keeps those with the smallest of random keys; parameters as to count."""
        keys = self.random.random(len(windows))
        distinct, places = np.unique(windows, return_inverse=True)
        limits = [0.0 if one == NO_WINDOW else self.limits.get(one, 1.0) for one in distinct.tolist()]
        found = np.flatnonzero(keys < np.array(limits)[places])
        if not len(found):
            return
        found = found[rank_within(windows[found], keys[found]) < self.quota]
        self.keys = np.append(self.keys, keys[found])
        self.numbers = np.append(self.numbers, windows[found])
        self.values = np.vstack([self.values, self.encode(columns, found)])
        ranks = rank_within(self.numbers, self.keys)
        last = ranks == self.quota - 1
        self.limits |= dict(zip(self.numbers[last].tolist(), self.keys[last].tolist(), strict=True))
        kept = ranks < self.quota
        self.keys, self.numbers, self.values = self.keys[kept], self.numbers[kept], self.values[kept]

    def encode(self, columns: Mapping[str, Column], rows: np.ndarray) -> np.ndarray:
        """Return rows of a batch as numbers, shape (n_rows, n_columns); a column that is absent is missing."""
        made = np.full((len(rows), len(self.layout)), np.nan, "float32")
        for place, (name, one) in enumerate(self.layout.items()):
            values = columns.get(name)
            if values is None:
                continue
            taken = take_rows(values, rows)
            if isinstance(taken, Coded):
                made[:, place] = self.encode_categories(name, one, taken)
            else:
                with np.errstate(over="ignore"):
                    made[:, place] = np.where(np.isfinite(taken), taken, np.nan)
        return made

    def encode_categories(self, name: str, one: Cells, values: Coded) -> np.ndarray:
        """Return the positions of categories among those of the reference, shape (n_rows,)."""
        index, codes = self.index.get(name, {}), np.full(len(values.values) + 1, np.nan)
        for code in np.unique(values.codes[values.codes >= 0]).tolist():
            if (value := values.values[code]) is not None:
                codes[code] = index.get(make_digest(value), len(one.values))
        return codes[values.codes]

    def get_sample(self) -> RowSample:
        """Return the rows so far, in the order of their windows."""
        order = np.lexsort((self.keys, self.numbers))
        return RowSample(self.values[order], self.numbers[order], self.quota)


def rank_within(groups: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the rank of each key among those of its group, from 0, shape (n_keys,).

    >>> rank_within(np.array([7, 7, 8, 7]), np.array([0.3, 0.1, 0.9, 0.2])).tolist()
    [2, 0, 0, 1]
    """
    order = np.lexsort((keys, groups))
    ordered = groups[order]
    is_first = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    starts = np.maximum.accumulate(np.where(is_first, np.arange(len(ordered)), 0))
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(len(order)) - starts
    return ranks


def choose_quota(n_rows: int, n_windows: int, n_columns: int) -> int:
    """Return how many rows a window may keep, so that a sample has about `n_rows` of them; 0 for none."""
    most = min(n_rows, MOST_KEPT // max(n_columns, 1))
    return max(1, most // max(n_windows, 1)) if most else 0
