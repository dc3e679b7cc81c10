"""Histories: recent rates of the positive class, or recent means of a numeric target, from outcomes already known.

An outcome counts from the time it is known, for as many days as the window is long. Training rows, holdout rows and
live requests use the same lookup on numpy arrays, so none of them can see an outcome later than its own prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from labkit.features.arrays import make_objects
from labkit.features.dictionary import combine_codes, find_dictionary, make_dictionary_array
from labkit.features.expressions import is_missing_value

PREDICT_AT, OUTCOME_KNOWN_AT = "predict_at", "outcome_known_at"
"""Columns of the joined table: the time a row is predicted and the time its outcome is known, in UTC."""


State = dict[str, np.ndarray]
"""Outcomes and their index, as plain arrays.

`times` (int64, microseconds since 1970, ascending) and `answers` (float64) of all outcomes, shape (n_outcomes,); for
each history `<name>.keys` (strings, sorted), `<name>.places` (int64, ascending: index of the key times (n_outcomes + 1)
plus the outcome's position in `times`) and `<name>.sums` (float64: sum of the outcomes before each place, and of all).
"""


DAY = 86_400_000_000
MANY_ROWS = 1000
"""From this number of rows on, each key and moment that occurs is looked up once, in order."""


SEPARATOR = "\x1f"


def make_state(names: Iterable[str]) -> State:
    """Return a state without outcomes.

    Parameters
    ----------
    names
        Names of the histories.
    """
    state = {"times": np.zeros(0, "int64"), "answers": np.zeros(0)}
    for name in names:
        state |= {
            f"{name}.keys": np.zeros(0, "U1"),
            f"{name}.places": np.zeros(0, "int64"),
            f"{name}.sums": np.zeros(1),
        }
    return state


def list_history_keys(columns: Sequence[np.ndarray], n_rows: int) -> Sequence[str | None]:
    """Return the key of every row.

    Parameters
    ----------
    columns
        Key columns, arrays of shape (n_rows,); if there are none, all rows share one key.
    n_rows
        Number of rows.

    Returns
    -------
    sequence of str
        One key per row; None where a part of the key is missing.
    """
    if not columns:
        return [""] * n_rows
    found = [one for one in map(find_dictionary, columns) if one is not None]
    if len(found) < len(columns):
        return join_keys([values.tolist() for values in columns])
    codes, values = combine_codes(found)
    keys: Sequence[str | None] = make_dictionary_array(codes, make_objects(join_keys(values)))  # type: ignore[assignment]
    return keys


def join_keys(columns: Sequence[Sequence[Any]]) -> list[str | None]:
    """Return the keys of rows, given the values of each key column."""
    parts = [to_texts(values) for values in columns]
    if len(parts) == 1:
        return parts[0]
    return [None if None in row else SEPARATOR.join(row) for row in zip(*parts, strict=True)]


def to_texts(values: Sequence[Any]) -> list[str | None]:
    """Return values as strings, None where a value is missing."""
    return [value if type(value) is str else None if is_missing_value(value) else str(value) for value in values]


def add_outcomes(
    state: State, times: np.ndarray, outcomes: np.ndarray, keys: Mapping[str, Sequence[str | None]]
) -> State:
    """Return the state with more outcomes; the result does not depend on their order or grouping.

    Parameters
    ----------
    state
        State so far; it is not changed.
    times
        Times at which the outcomes became known, int64 microseconds, shape (n_new,).
    outcomes
        Outcomes, float64, shape (n_new,).
    keys
        Keys by history, as returned by `list_history_keys`, one per outcome.
    """
    n_old, total = len(state["times"]), len(state["times"]) + len(times)
    all_times = np.concatenate([state["times"], times])
    all_outcomes = np.concatenate([state["answers"], outcomes])
    known, codes = {}, {}
    for name, new_keys in keys.items():
        before, after = state[f"{name}.keys"], [*new_keys]
        known[name] = sorted({*before.tolist(), *after} - {None})
        number = {key: code for code, key in enumerate(known[name])}
        codes[name] = np.full(total, -1, "int64")
        old, places = np.divmod(state[f"{name}.places"], n_old + 1)
        codes[name][places] = np.array([number[key] for key in before.tolist()], "int64")[old]
        codes[name][n_old:] = [-1 if key is None else number[key] for key in after]
    order = np.lexsort([*codes.values(), all_outcomes, all_times])
    found = {"times": all_times[order], "answers": all_outcomes[order]}
    for name in keys:
        found |= make_index(name, known[name], codes[name][order], found["answers"])
    return found


def make_index(name: str, keys: list[str], codes: np.ndarray, outcomes: np.ndarray) -> State:
    """Return the arrays of one history for outcomes sorted by time."""
    places = np.flatnonzero(codes >= 0)
    places = places[np.argsort(codes[places], kind="stable")]
    sums = np.concatenate([[0.0], np.cumsum(outcomes[places])])
    index = codes[places] * (len(codes) + 1) + places
    return {f"{name}.keys": np.array(keys, "U"), f"{name}.places": index, f"{name}.sums": sums}


class HistoryIndex:
    """Histories arranged so that one row is looked up in all of them together.

    Parameters
    ----------
    state
        The outcomes.
    days
        Lengths of the windows in days, by name of the history.

    Attributes
    ----------
    names
        Names of the features, in the order of `look_up`.
    """

    def __init__(self, state: State, days: Mapping[str, Sequence[int]]) -> None:
        self.state, self.days = state, days
        self.times = state["times"]
        self.known = {name: make_codes(state[f"{name}.keys"]) for name in days}
        self.places = [state[f"{name}.places"] for name in days]
        self.sums = [state[f"{name}.sums"] for name in days]
        spans = sorted({length for lengths in days.values() for length in lengths})
        self.spans = np.array(spans, "int64").reshape(-1, 1) * DAY
        # Each history asks for the places of the moment itself, row 0 of all moments, and of its windows' starts.
        asked = [[0, *(1 + spans.index(length) for length in lengths)] for lengths in days.values()]
        self.rows = np.array([row for rows in asked for row in rows], "int64")
        self.history = np.repeat(np.arange(len(asked)), [len(rows) for rows in asked])
        ends = np.cumsum([0, *(len(rows) for rows in asked)]).tolist()
        self.slices = [slice(start, end) for start, end in pairwise(ends)]
        starts = [(first, place) for first, end in pairwise(ends) for place in range(first + 1, end)]
        self.until = np.array([first for first, _ in starts], "int64")
        self.since = np.array([place for _, place in starts], "int64")
        self.names = [feature for name, lengths in days.items() for feature in list_rate_names(name, lengths)]

    def look_up(self, keys: Mapping[str, Sequence[str | None]], asked_at: np.ndarray) -> np.ndarray:
        """Return the rate and the number of outcomes known at each row's time, in each trailing window.

        Parameters
        ----------
        keys
            Key of each row, by history; see `list_history_keys`.
        asked_at
            `datetime64[us]`, shape (n_rows,): outcomes known up to and including this time count.

        Returns
        -------
        numpy.ndarray
            float64, shape (n_features, n_rows); rates are NaN where there is no outcome.
        """
        codes = np.array([find_codes(keys[name], known) for name, known in self.known.items()], "int64")
        codes = codes.reshape(len(self.known), len(asked_at))
        if len(asked_at) < MANY_ROWS:
            return self.compute(codes, asked_at)
        moments, places = np.unique(asked_at, return_inverse=True)
        found = [index.compute_distinct(own, moments, places) for index, own in zip(self.single, codes, strict=True)]
        return np.concatenate(found)

    @cached_property
    def single(self) -> list["HistoryIndex"]:
        """The histories, each by itself."""
        return [HistoryIndex(self.state, {name: lengths}) for name, lengths in self.days.items()]

    def compute_distinct(self, codes: np.ndarray, moments: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Compute the features of the only history, once for each key and moment that occur.

        Parameters
        ----------
        codes
            Index of each row's key, shape (n_rows,).
        moments
            The distinct times, shape (n_moments,).
        places
            Place of each row's time among them, shape (n_rows,).
        """
        pairs, rows = np.unique(codes * len(moments) + places, return_inverse=True)
        which, when = np.divmod(pairs, len(moments))
        return self.compute(which.reshape(1, -1), moments[when])[:, rows]

    def compute(self, codes: np.ndarray, asked_at: np.ndarray) -> np.ndarray:
        """Compute the features of rows; as `look_up`, with the index of each key, shape (n_histories, n_rows)."""
        is_time = ~np.isnat(asked_at)
        now = np.where(is_time, asked_at, np.datetime64(0, "us")).astype("int64")
        moments = np.empty((1 + len(self.spans), len(now)), "int64")
        moments[0] = self.times.searchsorted(now, side="right")
        moments[1:] = self.times.searchsorted(now - self.spans, side="left")
        asked = (codes * (len(self.times) + 1))[self.history] + moments[self.rows]
        found, totals = np.empty(asked.shape, "int64"), np.empty(asked.shape)
        for places, sums, rows in zip(self.places, self.sums, self.slices, strict=True):
            found[rows] = places.searchsorted(asked[rows])
            totals[rows] = sums[found[rows]]
        is_known = (codes[self.history[self.since]] >= 0) & is_time
        number = np.where(is_known, found[self.until] - found[self.since], 0).astype("float64")
        made = np.full((len(self.since), 2, len(now)), np.nan)
        np.divide(totals[self.until] - totals[self.since], number, out=made[:, 0], where=number > 0)
        made[:, 1] = number
        return made.reshape(len(self.names), len(now))


def make_codes(keys: np.ndarray) -> dict[str, int]:
    """Return the index of each key of a history."""
    return {key: code for code, key in reversed([*enumerate(keys.tolist())])}


def find_codes(keys: Sequence[str | None], known: Mapping[str, int]) -> Sequence[int] | np.ndarray:
    """Return the index of each key, -1 for missing and unseen keys."""
    if (found := find_dictionary(keys)) is not None:
        return np.array(find_codes(found[1].tolist(), known), "int64")[found[0]]
    # Keys are stored in numpy's strings, which end before the first of the zero characters at their end.
    return [-1 if key is None else known.get(key.rstrip("\0"), -1) for key in keys]


def list_rate_names(name: str, days: Sequence[int]) -> list[str]:
    """Return the names of a history's features.

    >>> list_rate_names("plane", [7])
    ['plane_rate_7d', 'plane_count_7d']
    """
    return [f"{name}_{statistic}_{length}d" for length in days for statistic in ("rate", "count")]
