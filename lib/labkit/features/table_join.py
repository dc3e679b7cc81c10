"""Joins of prediction: rows looked up in other tables by their keys, on numpy arrays.

Training joins with pandas, see `labkit.data.joins`; both give the same columns.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.features.arrays import make_array

HOUR = 3_600_000_000
"""Microseconds."""


@dataclass(frozen=True)
class TableJoin:
    """One left join, with the columns that the model needs of it.

    Attributes
    ----------
    keys
        Column of the joined table, by column of the rows so far.
    columns
        Name in the result, by name in the joined table.
    as_of
        Time column of the joined table: the latest row known at the time of prediction is taken, at most `within_hours`
        old. None for a join without time.
    """

    table: str
    keys: dict[str, str]
    columns: dict[str, str]
    as_of: str | None = None
    within_hours: float | None = None

    def list_needed(self) -> list[str]:
        """Return the columns of the joined table that the join needs."""
        return list(dict.fromkeys([*self.keys.values(), *([self.as_of] if self.as_of else []), *self.columns]))


class JoinedRows:
    """The rows of a joined table, arranged to be looked up.

    Parameters
    ----------
    join
        The join.
    kinds
        Kind of each column of the table: `number`, `boolean`, `time` or `category`.
    rows
        The columns, of their kinds, see `labkit.features.arrays.make_array`; shape (n_table_rows,). Rows with a missing
        key or time are left out.

    Raises
    ------
    DataError
        Two rows share their key, or their key and time.
    """

    def __init__(self, join: TableJoin, kinds: Mapping[str, str], rows: Mapping[str, np.ndarray]) -> None:
        self.join, self.kinds = join, {name: kinds[name] for name in join.list_needed()}
        keys = make_keys([rows[name] for name in join.keys.values()])
        times = None if join.as_of is None else rows[join.as_of].astype("datetime64[us]")
        kept = [place for place, key in enumerate(keys) if key is not None]
        if times is not None:
            kept = [place for place in kept if not np.isnat(times[place])]
        self.codes: dict[Hashable, int] = {}
        codes = np.array([self.codes.setdefault(keys[place], len(self.codes)) for place in kept], "int64")
        at = np.zeros(len(kept), "int64") if times is None else times[kept].astype("int64")
        order = np.lexsort([at, codes])
        self.at, sorted_codes = at[order], codes[order]
        self.moments = np.unique(self.at)
        # One ascending number per row: its key, then its time.
        self.index = self.number(sorted_codes, self.moments.searchsorted(self.at, side="right"))
        repeated = np.flatnonzero(self.index[1:] == self.index[:-1])
        if len(repeated):
            place = kept[order[repeated[0]]]
            first = {name: str(rows[name][place]) for name in join.list_needed() if name not in join.columns}
            raise DataError(f"join with {join.table}: two rows share their key, {first}: the join would multiply rows")
        places = np.array(kept, "int64")[order]
        # A last row of missing values is what rows get that find none.
        self.values = {name: append_missing(rows[name][places], kinds[name]) for name in join.columns}

    @property
    def n_rows(self) -> int:
        """Number of rows that can be found."""
        return len(self.at)

    @property
    def latest(self) -> np.datetime64 | None:
        """The latest time of a row, in UTC; None without rows or times."""
        return np.datetime64(int(self.at.max()), "us") if self.join.as_of and len(self.at) else None

    def number(self, codes: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        """Return the number of a key with the number of moments up to a time."""
        return codes * (len(self.moments) + 1) + ranks

    def look_up(self, columns: Mapping[str, np.ndarray], asked_at: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return the joined columns by their names in the result, arrays of shape (n_rows,).

        Parameters
        ----------
        columns
            The rows so far, among them the keys.
        asked_at
            Times of prediction, `datetime64[us]`, shape (n_rows,); needed by joins with `as_of`.

        Raises
        ------
        DataError
            A key is of another kind than in the joined table.
        """
        join = self.join
        keys = make_keys([make_array(columns[name], self.kinds[key], name) for name, key in join.keys.items()])
        codes = np.array([-1 if key is None else self.codes.get(key, -1) for key in keys], "int64")
        now, is_found = np.zeros(len(codes), "int64"), codes >= 0
        if join.as_of is not None:
            times = np.asarray(asked_at, "datetime64[us]")
            is_found &= ~np.isnat(times)
            now = np.where(is_found, times, np.datetime64(0, "us")).astype("int64")
        asked = self.number(codes, self.moments.searchsorted(now, side="right"))
        places = self.index.searchsorted(asked, side="right") - 1
        is_found &= places >= 0
        if self.n_rows:
            is_found &= self.index[places] // (len(self.moments) + 1) == codes
            if join.within_hours is not None:
                is_found &= now - self.at[places] <= round(join.within_hours * HOUR)
        places = np.where(is_found, places, self.n_rows)
        return {new: self.values[name][places] for name, new in join.columns.items()}


def make_keys(columns: Sequence[np.ndarray]) -> list[Hashable | None]:
    """Return the key of each row, None where a part of it is missing."""
    parts = [list_hashable(values) for values in columns]
    if len(parts) == 1:
        return parts[0]
    return [None if None in row else row for row in zip(*parts, strict=True)]


def list_hashable(values: np.ndarray) -> list[Any]:
    """Return values of a kind as hashable ones, None for missing ones."""
    return [None if value != value else value for value in values.tolist()]


def append_missing(values: np.ndarray, kind: str) -> np.ndarray:
    """Return values of a kind with a missing one at the end."""
    missing = {"time": np.array(["NaT"], "datetime64[us]"), "category": np.array([None], object)}
    return np.concatenate([values, missing.get(kind, np.array([np.nan]))])
