"""Histories: recent rates of the positive class, or recent means of a numeric target, from outcomes already known.

An outcome counts from the time it is known, for as many days as the window is long. Training rows, holdout rows and
live requests use the same lookup on numpy arrays, so none of them can see an outcome later than its own prediction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
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


@dataclass(frozen=True)
class Places:
    """What some histories search for, arranged so that one search finds it all.

    Attributes
    ----------
    moments
        Which of the moments each place belongs to, shape (n_places,): 0 for that of the prediction, else the start of a
        window.
    rows
        Which row of the keys it belongs to, shape (n_places,).
    shifts
        Number of its history: so many more sums than places have the histories before it, shape (n_places, 1).
    until, since
        Places at which each window ends and starts, shape (n_windows,).
    windows
        Which row of the keys each window belongs to, shape (n_windows,).
    """

    moments: np.ndarray
    rows: np.ndarray
    shifts: np.ndarray
    until: np.ndarray
    since: np.ndarray
    windows: np.ndarray


class HistoryIndex:
    """Histories arranged so that rows are looked up in all of them together.

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
        self.times, self.n_moments = state["times"], len(state["times"]) + 1
        self.known = {name: make_codes(state[f"{name}.keys"]) for name in days}
        # The places of all histories behind one another, as if their keys were those of a single one.
        n_keys = [len(state[f"{name}.keys"]) for name in days]
        self.starts = np.cumsum([0, *n_keys[:-1]]).reshape(-1, 1) * self.n_moments
        places = [state[f"{name}.places"] for name in days]
        self.places = join_places(places, self.starts.ravel().tolist(), sum(n_keys) * self.n_moments)
        self.sums = join_sums([state[f"{name}.sums"] for name in days])
        spans = sorted({length for lengths in days.values() for length in lengths})
        # An outcome known at the moment of the prediction counts, and so does one known when a window starts.
        self.spans = np.array([0, *(length * DAY + 1 for length in spans)], "int64").reshape(-1, 1)
        moments = [[0, *(1 + spans.index(length) for length in lengths)] for lengths in days.values()]
        self.together = make_places(moments, first=0)
        self.single = [make_places([asked], first=number) for number, asked in enumerate(moments)]
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
        starts, is_known = codes * self.n_moments + self.starts, (codes >= 0) & ~np.isnat(asked_at)
        times = asked_at.astype("int64")
        if len(times) < MANY_ROWS:
            return self.compute(self.together, starts, self.find_moments(times), is_known)
        distinct, places = np.unique(times, return_inverse=True)
        moments = self.find_moments(distinct)
        made = []
        for row, asked in enumerate(self.single):
            # Each key and moment that occurs once, in their order, so that those beside one another are found together.
            _, chosen, rows = np.unique(codes[row] * len(distinct) + places, return_index=True, return_inverse=True)
            one, of_history = moments[:, places[chosen]], slice(row, row + 1)
            made += [self.compute(asked, starts[of_history, chosen], one, is_known[of_history, chosen])[:, rows]]
        return np.concatenate(made)

    def find_moments(self, times: np.ndarray) -> np.ndarray:
        """Return how many outcomes were known at each time, and before each window that ends there.

        Parameters
        ----------
        times
            int64 microseconds, shape (n_times,).

        Returns
        -------
        numpy.ndarray
            int64, shape (1 + n_spans, n_times).
        """
        return self.times.searchsorted(times - self.spans, side="right")

    def compute(self, asked: Places, starts: np.ndarray, moments: np.ndarray, is_known: np.ndarray) -> np.ndarray:
        """Compute the features of rows.

        Parameters
        ----------
        asked
            The places of the histories.
        starts, is_known
            Where the places of each key start, and whether the key and the time are known, shape (n_histories, n_rows).
        moments
            Result of `find_moments`.
        """
        wanted = starts.take(asked.rows, axis=0) + moments.take(asked.moments, axis=0)
        found = self.places.searchsorted(wanted.astype(self.places.dtype, copy=False))
        totals = self.sums.take(found + asked.shifts).astype("float64", copy=False)
        number = found.take(asked.until, axis=0) - found.take(asked.since, axis=0)
        number *= is_known.take(asked.windows, axis=0)
        total = totals.take(asked.until, axis=0) - totals.take(asked.since, axis=0)
        made = np.empty((len(number), 2, number.shape[1]))
        made.fill(np.nan)
        np.divide(total, number, out=made[:, 0], where=number > 0)
        made[:, 1] = number
        return made.reshape(2 * len(number), number.shape[1])


def make_places(moments: Sequence[Sequence[int]], *, first: int) -> Places:
    """Return what histories search for, given the moments that each asks for and the number of the first."""
    ends = np.cumsum([0, *map(len, moments)]).tolist()
    rows = np.repeat(np.arange(len(moments)), [len(asked) for asked in moments])
    windows = [(start, place) for start, end in pairwise(ends) for place in range(start + 1, end)]
    until, since = np.array(windows, "int64").reshape(-1, 2).T
    together = np.array([moment for asked in moments for moment in asked], "int64")
    return Places(together, rows, (rows + first).reshape(-1, 1), until, since, rows[since])


def join_places(parts: Sequence[np.ndarray], starts: Sequence[int], limit: int) -> np.ndarray:
    """Return the places of several histories, each from its start on, all below a limit, without further copies."""
    ends = [*accumulate(map(len, parts))]
    joined = np.empty(sum(map(len, parts)), "int32" if limit < 2**31 else "int64")
    for part, start, end in zip(parts, starts, ends, strict=True):
        np.add(part, start, out=joined[end - len(part) : end], casting="same_kind")
    return joined


def join_sums(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sums of several histories, in float32 if that represents all of them exactly, as those of classes."""
    with np.errstate(over="ignore"):
        is_exact = all(np.array_equal(part.astype("float32"), part) for part in parts)
    return np.concatenate(parts, dtype="float32" if is_exact else "float64", casting="same_kind")


def make_codes(keys: np.ndarray) -> dict[str, int]:
    """Return the index of each key of a history."""
    return {key: code for code, key in reversed([*enumerate(keys.tolist())])}


def find_codes(keys: Sequence[str | None], known: Mapping[str, int]) -> Sequence[int] | np.ndarray:
    """Return the index of each key, -1 for missing and unseen keys."""
    if (found := find_dictionary(keys)) is not None:
        return np.array(find_codes(found[1].tolist(), known), "int64")[found[0]]
    codes = [known.get(key, -1) for key in keys]  # type: ignore[arg-type]
    # Keys are stored in numpy's strings, which end before the first of the zero characters at their end.
    return (
        [
            known.get(key.rstrip("\0"), -1) if code < 0 and key is not None else code
            for key, code in zip(keys, codes, strict=True)
        ]
        if -1 in codes
        else codes
    )


def list_rate_names(name: str, days: Sequence[int]) -> list[str]:
    """Return the names of a history's features.

    >>> list_rate_names("plane", [7])
    ['plane_rate_7d', 'plane_count_7d']
    """
    return [f"{name}_{statistic}_{length}d" for length in days for statistic in ("rate", "count")]
