"""Windows of rows, and the counts of their columns: small integers and sums that add up over windows.

The cells of a numeric column lie between 255 quantiles of the reference, so each holds about as many rows. Distances of
Kolmogorov-Smirnov and Wasserstein computed from them differ from the exact ones by at most 0.002, at the cost of one
binary search per value. Sums beyond the outermost quantiles keep what the cells would lose of long tails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labkit.features.known_values import MOST_VALUES, make_digest
from labkit.monitoring.row_batches import Batch, Coded, Column

MOST_RELATED = 20
"""Most numeric columns whose products are summed, for predicting each from the others with squares and products."""
FURTHEST = 8.0
"""Standard deviations at which a number is clipped before it is summed: a typing error is not a relation."""
MOST_UNSEEN = 1000
"""Most unseen values of a column that are remembered by name."""
DAY = np.timedelta64(1, "D")
NO_WINDOW = np.iinfo("int64").min
"""Number of the window of rows that are not counted; days before 1970 have numbers below 0."""
BY_COLUMN = ("cells", "tails", "sums", "extremes", "missing")
"""Counts that are kept by column."""


@dataclass(frozen=True)
class Windows:
    """How rows are divided into windows: by days of a time zone, weeks from Mondays on, or by their number.

    Attributes
    ----------
    days
        Days per window; None if rows have no time.
    rows
        Rows per window without times.
    """

    days: int | None
    rows: int
    zone: str = "UTC"

    def assign(self, batch: Batch, n_before: int) -> np.ndarray:
        """Return the number of the window of each row, shape (n_rows,); `NO_WINDOW` without a time.

        Parameters
        ----------
        n_before
            Rows that were read before this batch.
        """
        if self.days is None:
            return (n_before + np.arange(batch.n_rows)) // self.rows
        if batch.times is None:
            return np.full(batch.n_rows, NO_WINDOW)
        is_known = ~np.isnat(batch.times)
        times = np.where(is_known, batch.times, np.datetime64(0, "us"))
        local = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(self.zone).tz_localize(None).to_numpy()
        days = (local.astype("datetime64[D]") - np.datetime64(0, "D")) // DAY
        return np.asarray(np.where(is_known, (days + (3 if self.days > 1 else 0)) // self.days, NO_WINDOW), "int64")

    def name(self, number: int) -> str:
        """Return the first day of a window as YYYY-MM-DD, or its rows.

        >>> Windows(7, 0).name(2872), Windows(None, 300).name(1)
        ('2025-01-13', 'rows 301 to 600')
        """
        if self.days is None:
            return f"rows {number * self.rows + 1:,} to {(number + 1) * self.rows:,}"
        return str(np.datetime64(number * self.days - (3 if self.days > 1 else 0), "D"))

    def group(self, numbers: np.ndarray) -> np.ndarray:
        """Return the group of each window: one is compared with the reference without its own group, its week."""
        return (numbers + 3) // 7 if self.days == 1 else numbers

    def weekday(self, numbers: np.ndarray) -> np.ndarray:
        """Return what windows of the same expected size share: the weekday of days, 0 for longer windows."""
        return (numbers + 3) % 7 if self.days == 1 else np.zeros_like(numbers)


@dataclass(frozen=True)
class Cells:
    """The cells of one column.

    Attributes
    ----------
    edges
        Ascending edges of the cells of a number, shape (n_cells - 1,); empty for a category.
    values
        Digests of the values of a category in the reference, one cell each; the last cell is of values unseen there.
        The values themselves, such as names of persons, are not kept.
    mean, sd
        Of the reference; of a number only.
    is_discrete
        Whether the edges are all numbers that the column takes.
    is_open
        Whether it has too many distinct values to be compared by them: only missing values are counted.
    """

    kind: str
    edges: np.ndarray = field(default_factory=lambda: np.zeros(0))
    values: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 0.0
    is_discrete: bool = False
    is_open: bool = False

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.values) + 1 if self.kind == "category" else len(self.edges) + 1

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "kind": self.kind, "edges": self.edges.tolist(), "values": list(self.values), "mean": self.mean,
            "sd": self.sd, "is_discrete": self.is_discrete, "is_open": self.is_open,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Cells":
        """Return it from the result of `to_dict`."""
        edges = np.array(content["edges"], "float64")
        return cls(**{**content, "edges": edges, "values": tuple(content["values"])})


@dataclass
class Counts:
    """Counts of windows, the first axis of each array.

    Attributes
    ----------
    numbers
        Number of each window, ascending, shape (n_windows,).
    rows
        Rows of each window, shape (n_windows,).
    cells
        By column, shape (n_windows, n_cells).
    tails
        By numeric column, sums of the distances below the lowest and above the highest edge, shape (n_windows, 2).
    sums
        By numeric column, sums of the standardized numbers and of their squares, shape (n_windows, 2).
    extremes
        By numeric column, the least and the largest number, shape (n_windows, 2).
    missing
        By column, shape (n_windows,).
    moments
        Sums of the standardized numbers and of their products, see `list_terms`, shape (n_windows, n_terms).
    """

    numbers: np.ndarray
    rows: np.ndarray
    cells: dict[str, np.ndarray]
    tails: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]
    extremes: dict[str, np.ndarray]
    missing: dict[str, np.ndarray]
    moments: np.ndarray

    def take(self, which: np.ndarray) -> "Counts":
        """Return some of the windows, given by a mask or by positions."""
        parts: dict[str, Any] = {
            part: {name: values[which] for name, values in getattr(self, part).items()} for part in BY_COLUMN
        }
        return Counts(self.numbers[which], self.rows[which], **parts, moments=self.moments[which])


class WindowCounter:
    """Counts the rows of batches by window.

    Parameters
    ----------
    layout
        Cells by column, in order.

    Attributes
    ----------
    unseen
        Rows by value that the reference does not have, by categorical column.
    found
        Cell by value, of the first `MOST_VALUES` values of each categorical column: their digests are computed once.
    """

    def __init__(self, layout: Mapping[str, Cells]) -> None:
        self.layout = dict(layout)
        self.numeric = list_varying(layout)
        self.terms = list_terms(len(self.numeric))
        self.windows: dict[int, Counts] = {}
        self.index = {
            name: {digest: place for place, digest in enumerate(one.values)}
            for name, one in layout.items()
            if one.kind == "category"
        }
        self.unseen: dict[str, dict[str, int]] = {name: {} for name in self.index}
        self.found: dict[str, dict[str, int]] = {name: {} for name in self.index}

    def add(self, columns: Mapping[str, Column], windows: np.ndarray) -> None:
        """Count the rows of one batch.

        Parameters
        ----------
        columns
            Cleaned columns, shape (n_rows,); one that is absent counts as missing in every row.
        windows
            Number of the window of each row; rows of `NO_WINDOW` are not counted.
        """
        if not len(windows):
            return
        if windows.min() == windows.max():
            parts: list[tuple[int, np.ndarray | slice, int]] = [(int(windows[0]), slice(None), len(windows))]
        else:
            order = np.argsort(windows, kind="stable")
            numbers, starts = np.unique(windows[order], return_index=True)
            ends = [*starts[1:].tolist(), len(order)]
            spans = zip(numbers.tolist(), starts.tolist(), ends, strict=True)
            parts = [(number, order[start:end], end - start) for number, start, end in spans]
        for number, rows, n_rows in parts:
            if number != NO_WINDOW and n_rows:
                total = self.windows.setdefault(number, self.make_empty(number))
                self.add_rows(total, {name: take_rows(values, rows) for name, values in columns.items()}, n_rows)

    def make_empty(self, number: int) -> Counts:
        """Return the counts of a window without rows."""
        numeric = {name: one for name, one in self.layout.items() if one.kind == "number"}
        return Counts(
            np.array([number]),
            np.zeros(1, "int64"),
            {name: np.zeros((1, one.n_cells), "int64") for name, one in self.layout.items()},
            {name: np.zeros((1, 2)) for name in numeric},
            {name: np.zeros((1, 2)) for name in numeric},
            {name: np.array([[np.inf, -np.inf]]) for name in numeric},
            {name: np.zeros(1, "int64") for name in self.layout},
            np.zeros((1, len(self.terms))),
        )

    def add_rows(self, total: Counts, columns: Mapping[str, Column], n_rows: int) -> None:
        """Add rows of one window to its counts."""
        total.rows += n_rows
        standardized = np.zeros((n_rows, len(self.numeric)))
        for name, one in self.layout.items():
            values = columns.get(name)
            if values is None:
                total.missing[name] += n_rows
            elif isinstance(values, Coded) or one.kind == "category":
                self.add_categories(total, name, one, values)
            else:
                known = np.isfinite(values)
                n_known = int(np.count_nonzero(known))
                scaled = (values - one.mean) / (one.sd or 1.0)
                if n_known < n_rows:
                    values, scaled = values[known], scaled[known]
                add_to_cells(total, name, one, values)
                # Not by BLAS, whose threads would take all cores for a moment.
                total.sums[name][0] += (scaled.sum(), np.einsum("i,i->", scaled, scaled))
                total.missing[name] += n_rows - n_known
                if name in self.numeric:
                    standardized[known, self.numeric.index(name)] = np.clip(scaled, -FURTHEST, FURTHEST)
        total.moments += sum_terms(standardized, self.terms)

    def add_categories(self, total: Counts, name: str, one: Cells, values: Column) -> None:
        """Add the values of a categorical column to its cells."""
        coded = values if isinstance(values, Coded) else Coded(np.full(len(values), -1), ())
        index, unseen = self.index.get(name, {}), one.n_cells - 1
        found = self.found.get(name, {})
        n_each = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.values)).tolist()
        total.missing[name] += int((coded.codes < 0).sum())
        for value, n_rows in zip(coded.values, n_each, strict=True):
            if value is None:
                total.missing[name] += n_rows
            elif n_rows and not one.is_open:
                cell = found.get(value, -1)
                if cell < 0:
                    cell = index.get(make_digest(value), unseen)
                    if len(found) < MOST_VALUES:
                        found[value] = cell
                total.cells[name][0, cell] += n_rows
                if cell == unseen and (value in self.unseen[name] or len(self.unseen[name]) < MOST_UNSEEN):
                    self.unseen[name][value] = self.unseen[name].get(value, 0) + n_rows

    def get_counts(self) -> Counts:
        """Return the counts of all windows so far, in order."""
        ordered = [self.windows[number] for number in sorted(self.windows)]
        if not ordered:
            return self.make_empty(0).take(np.zeros(0, int))
        parts: dict[str, Any] = {
            part: {
                name: np.concatenate([getattr(one, part)[name] for one in ordered])
                for name in getattr(ordered[0], part)
            }
            for part in BY_COLUMN
        }
        numbers, rows, moments = (
            np.concatenate([getattr(one, part) for one in ordered]) for part in ("numbers", "rows", "moments")
        )
        return Counts(numbers, rows, **parts, moments=moments)


def take_rows(values: Column, rows: np.ndarray | slice) -> Column:
    """Return some rows of a column."""
    return values.take(rows) if isinstance(values, Coded) else values[rows]


def add_to_cells(total: Counts, name: str, one: Cells, values: np.ndarray) -> None:
    """Add known numbers to the cells of their column, and to the sums beyond its edges."""
    if not len(values) or not len(one.edges):
        return
    places = np.searchsorted(one.edges, values, side="right")
    total.cells[name][0] += np.bincount(places, minlength=one.n_cells)
    low, high = one.edges[0], one.edges[-1]
    below, above = values[places == 0], values[places == one.n_cells - 1]
    total.tails[name][0] += (low * len(below) - below.sum(), above.sum() - high * len(above))
    least, largest = total.extremes[name][0]
    total.extremes[name][0] = min(least, values.min()), max(largest, values.max())


def list_varying(layout: Mapping[str, Cells]) -> list[str]:
    """Return the numeric columns that vary, which are summed."""
    return [name for name, one in layout.items() if one.kind == "number" and one.sd > 0]


def list_terms(n_numbers: int) -> list[tuple[int, ...]]:
    """Return what is summed: each number, each square, and if there are few each product, as positions.

    >>> list_terms(2)
    [(0,), (1,), (0, 0), (0, 1), (1, 1)]
    """
    single = [(place,) for place in range(n_numbers)]
    if n_numbers > MOST_RELATED:
        return [*single, *((place, place) for place in range(n_numbers))]
    return [*single, *((first, second) for first in range(n_numbers) for second in range(first, n_numbers))]


def sum_terms(standardized: np.ndarray, terms: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Return the sums of all terms over rows, shape (n_terms,).

    Parameters
    ----------
    standardized
        Shape (n_rows, n_numbers).
    """
    sums = standardized.sum(axis=0)
    products = standardized.T @ standardized
    return np.array([sums[term[0]] if len(term) == 1 else products[term[0], term[1]] for term in terms], "float64")
