"""Raw rows with values that no table contains yet but a request may; model and ONNX graph must agree on them too."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

NEVER_SEEN = "a category never seen"
SPOILT = 0.1
"""Fraction of a column's values that are removed, and fraction of the values that are replaced."""
MOST_EXTREMES = 2000
"""Maximum number of rows with one extreme value each; if there are more combinations, a sample is drawn."""
EXTREMES: dict[str, tuple[Any, ...]] = {
    # Above 2^24 float32 cannot represent all integers, above 2^53 float64 cannot. In float32 the square of 1e30
    # overflows, and so does any number above 3.4e38. The smallest values are subnormal in float32 and in float64.
    "number": (
        *(sign * (2.0**power + step) for power in (24, 53) for step in (1, 2) for sign in (1, -1)),
        *(sign * value for value in (1e7, 1e15, 1e30, 3e38, 1e39, 1e300, np.inf) for sign in (1, -1)),
        *(1e-7, 1e-30, -1e-30, 1e-45, 5e-324, 0.0, -0.0),
    ),
    "boolean": (0.0, 1.0),
    "category": ("", " ", "x" * 100_000, "\n\t", "\0", 'quote " and \\', "ﷺ\u202e😀", "NaN", "None", "0", "-0.0"),
    # The limits of ISO 8601, of 64-bit nanoseconds and of 32-bit seconds, and the epoch.
    "time": tuple(
        pd.Timestamp(time)
        for time in (
            "0001-01-01", "1677-09-21T00:12:43", "1900-01-01", "1969-12-31T23:59:59.999999", "1970-01-01",
            "2000-02-29", "2038-01-19T03:14:08", "2262-04-11T23:47:17", "9999-12-31T23:59:59.999999",
        )
    ),
}  # fmt: skip
"""Values at the limits of what can be represented, by kind of column."""


def make_hard_rows(frame: pd.DataFrame, kinds: Mapping[str, str], *, n_rows: int, seed: int) -> pd.DataFrame:
    """Return corrupted rows and rows with extreme values.

    Parameters
    ----------
    frame
        Raw rows, shape (n_rows, n_columns).
    kinds
        Kind of each raw column, as in `RowFeatures.inputs_`.
    n_rows
        Number of corrupted rows.

    Returns
    -------
    pandas.DataFrame
        Shape (n_rows + n_extreme_rows, n_columns); see `make_extreme_rows`.
    """
    spoilt = make_spoilt_rows(frame, kinds, n_rows=n_rows, seed=seed)
    return pd.concat([spoilt, make_extreme_rows(frame, kinds, seed=seed)], ignore_index=True)


def make_spoilt_rows(frame: pd.DataFrame, kinds: Mapping[str, str], *, n_rows: int, seed: int) -> pd.DataFrame:
    """Return `n_rows` rows sampled from real rows, with missing values and unseen categories; times are unchanged."""
    # If there are fewer rows, they are drawn repeatedly and changed differently each time.
    random = np.random.default_rng(seed)
    drawn = random.choice(len(frame), n_rows, replace=len(frame) < n_rows)
    hard = frame.iloc[np.sort(drawn)].reset_index(drop=True)
    for name, kind in kinds.items():
        if kind == "time":
            continue
        lot, values = random.random(n_rows), loosen(hard[name], kind)
        hard[name] = values.mask(lot < SPOILT, None if kind == "category" else np.nan)
        if kind == "category":
            hard[name] = hard[name].mask(lot > 1 - SPOILT, NEVER_SEEN)
    return hard


def make_extreme_rows(frame: pd.DataFrame, kinds: Mapping[str, str], *, seed: int) -> pd.DataFrame:
    """Return rows sampled from real rows, each with one extreme value; the last rows have one in every column."""
    random = np.random.default_rng(seed)
    single = [(name, value) for name, kind in kinds.items() for value in EXTREMES[kind]]
    if len(single) > MOST_EXTREMES:
        single = [single[place] for place in np.sort(random.choice(len(single), MOST_EXTREMES, replace=False))]
    n_all = max((len(EXTREMES[kind]) for kind in kinds.values()), default=0)
    drawn = random.choice(len(frame), len(single) + n_all)
    hard = frame.iloc[drawn].reset_index(drop=True)
    for name, kind in kinds.items():
        places = [place for place, (column, _) in enumerate(single) if column == name]
        values = [value for column, value in single if column == name]
        values += [EXTREMES[kind][number % len(EXTREMES[kind])] for number in range(n_all)]
        hard[name] = replace(loosen(hard[name], kind), [*places, *range(len(single), len(hard))], values)
    return hard


def loosen(values: pd.Series, kind: str) -> pd.Series:
    """Return a column converted to a type that can hold every value of its kind and missing values."""
    if kind == "time":
        return values.dt.as_unit("us")
    if kind == "category":
        return values.astype(object).where(values.notna(), None)
    return pd.to_numeric(values).astype("float64")


def replace(values: pd.Series, places: Sequence[int], others: Sequence[Any]) -> pd.Series:
    """Return a column with other values at some positions; times are localised to the column's time zone."""
    changed = values.copy()
    zone = getattr(values.dtype, "tz", None)
    changed.iloc[list(places)] = [other.tz_localize(zone) for other in others] if zone is not None else list(others)
    return changed
