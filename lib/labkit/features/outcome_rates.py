"""Histories: recent rates of the positive class, or recent means of a numeric target, from outcomes already known.

An outcome counts from the time it is known, for as many days as the window is long. Training rows, holdout rows and
live requests use the same lookup on numpy arrays, so none of them can see an outcome later than its own prediction.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from labkit.features.expressions import is_missing

PREDICT_AT, OUTCOME_KNOWN_AT = "predict_at", "outcome_known_at"
"""Columns of the joined table: the time a row is predicted and the time its outcome is known, in UTC."""


State = dict[str, np.ndarray]
"""Outcomes and their index, as plain arrays.

`times` (int64, microseconds since 1970, ascending) and `answers` (float64) of all outcomes, shape (n_outcomes,); for
each history `<name>.keys` (strings, sorted), `<name>.places` (int64, ascending: index of the key times (n_outcomes + 1)
plus the outcome's position in `times`) and `<name>.sums` (float64: sum of the outcomes before each place, and of all).
"""


DAY = 86_400_000_000


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


def make_keys(columns: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
    """Return the key of every row.

    Parameters
    ----------
    columns
        Key columns, arrays of shape (n_rows,); if there are none, all rows share one key.
    n_rows
        Number of rows.

    Returns
    -------
    numpy.ndarray
        Strings, shape (n_rows,); None where a part of the key is missing.
    """
    if not columns:
        return np.full(n_rows, "", object)
    parts = [to_texts(values) for values in columns]
    if len(parts) == 1:
        return np.array(parts[0], object)
    joined = [None if None in row else SEPARATOR.join(row) for row in zip(*parts, strict=True)]
    return np.array(joined, object)


def to_texts(values: np.ndarray) -> list[str | None]:
    """Return values as strings, None where a value is missing."""
    return [
        None if is_absent else str(value) for value, is_absent in zip(values.tolist(), is_missing(values), strict=True)
    ]


def add_outcomes(state: State, times: np.ndarray, outcomes: np.ndarray, keys: Mapping[str, np.ndarray]) -> State:
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
        Keys by history, as returned by `make_keys`, shape (n_new,).
    """
    n_old, total = len(state["times"]), len(state["times"]) + len(times)
    all_times = np.concatenate([state["times"], times])
    all_outcomes = np.concatenate([state["answers"], outcomes])
    known, codes = {}, {}
    for name, new_keys in keys.items():
        before, after = state[f"{name}.keys"], new_keys.tolist()
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


def look_up(state: State, name: str, keys: np.ndarray, asked_at: np.ndarray, days: Sequence[int]) -> State:
    """Return the rate and the number of outcomes known at each row's time, in each trailing window.

    Parameters
    ----------
    state
        The outcomes.
    name
        Name of the history.
    keys
        Key of each row, shape (n_rows,).
    asked_at
        `datetime64[us]`, shape (n_rows,): outcomes known up to and including this time count.
    days
        Lengths of the windows, in days.

    Returns
    -------
    dict
        `<name>_rate_<days>d` (NaN where there is no outcome) and `<name>_count_<days>d`, float64, shape (n_rows,).
    """
    codes = find_key_codes(state[f"{name}.keys"], keys)
    is_known = (codes >= 0) & ~np.isnat(asked_at)
    now = np.where(is_known, asked_at, np.datetime64(0, "us")).astype("int64")
    until = find_places(state, name, codes, np.searchsorted(state["times"], now, side="right"))
    found = {}
    for length in days:
        since = find_places(state, name, codes, np.searchsorted(state["times"], now - length * DAY, side="left"))
        number = np.where(is_known, until - since, 0).astype("float64")
        sums = state[f"{name}.sums"]
        with np.errstate(divide="ignore", invalid="ignore"):
            found[f"{name}_rate_{length}d"] = np.where(number > 0, (sums[until] - sums[since]) / number, np.nan)
        found[f"{name}_count_{length}d"] = number
    return found


def find_key_codes(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the index of each key, -1 for missing and unseen keys."""
    if not len(known):
        return np.full(len(keys), -1, "int64")
    strings = keys.tolist()
    # A numpy string array pads all strings to the longest: strings longer than any known key are excluded first.
    longest = known.dtype.itemsize // np.dtype("U1").itemsize
    may_match = np.array([string is not None and len(string) <= longest for string in strings], bool)
    asked = np.array([string if is_short else "" for string, is_short in zip(strings, may_match, strict=True)], "U")
    places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    is_found = (known[places] == asked) & may_match
    return np.where(is_found, places, -1)


def find_places(state: State, name: str, codes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return how many entries of a history's index precede a key's outcomes at or after a position in time."""
    return np.searchsorted(state[f"{name}.places"], codes * (len(state["times"]) + 1) + times)


def list_rate_names(name: str, days: Sequence[int]) -> list[str]:
    """Return the names of a history's features.

    >>> list_rate_names("plane", [7])
    ['plane_rate_7d', 'plane_count_7d']
    """
    return [f"{name}_{statistic}_{length}d" for length in days for statistic in ("rate", "count")]
