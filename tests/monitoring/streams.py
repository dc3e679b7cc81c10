"""Streams of rows with days that share their weather, calm or with a change planted on one of them."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.monitoring.reference_profile import Profile, make_profile
from labkit.monitoring.row_batches import read_frame
from labkit.monitoring.window_counts import Counts, WindowCounter

FIRST = pd.Timestamp("2026-01-05", tz="UTC")
"""A Monday."""
ROWS, REFERENCE_DAYS = 320, 84
EVENT = 8
"""Day of a stream from which its change is planted."""
NOW = datetime(2027, 6, 1, tzinfo=UTC)
CITIES = [f"city {number}" for number in range(12)]

Plant = Callable[[pd.DataFrame], pd.DataFrame]


def make_days(n_days: int, *, seed: int, first: int = 0, rows: int = ROWS) -> pd.DataFrame:
    """Return rows of consecutive days: `temp` and `wind` differ between days, `temp` follows from `dew` and `hour`."""
    random = np.random.default_rng(seed)
    parts = []
    for day in range(first, first + n_days):
        n = int(rows * (0.8 if (day % 7) > 4 else 1) * random.uniform(0.97, 1.03))
        hour = np.sort(random.uniform(5, 23, n))
        dew = random.normal(50, 12) + random.normal(0, 1, n)
        city = random.choice(len(CITIES), n, p=np.arange(1, 13) / 78)
        parts.append(
            pd.DataFrame(
                {
                    "predict_at": (FIRST + pd.to_timedelta(day * 24 + hour, unit="h")).floor("s"),
                    "hour": hour,
                    "dew": dew,
                    "temp": dew + 12 + 4 * np.sin(hour / 4) + random.normal(0, 1.5, n),
                    "wind": random.normal(10, 3) + random.normal(0, 1, n),
                    "distance": 200 + 150 * city + random.normal(0, 60, n),
                    "seats": np.where(random.uniform(size=n) < 0.15, np.nan, random.choice([50, 140, 180], n)),
                    "city": np.array(CITIES, object)[city],
                    "tail": [f"N{number}" for number in random.integers(0, 40 + 12 * day, n)],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def fit_features(rows: pd.DataFrame) -> RowFeatures:
    return RowFeatures().fit(rows)


def profile_rows(rows: pd.DataFrame, row_features: RowFeatures) -> Profile:
    return make_profile("small", lambda: read_frame(rows, row_features), row_features)


def count_rows(rows: pd.DataFrame, row_features: RowFeatures, profile: Profile) -> Counts:
    """Return the counts of the windows of a stream."""
    counter, n_before = WindowCounter(profile.inputs.layout), 0
    for batch in read_frame(rows, row_features):
        counter.add(batch.columns, profile.inputs.windows.assign(batch, n_before))
        n_before += batch.n_rows
    return counter.get_counts()


def plant(rows: pd.DataFrame, change: Plant) -> pd.DataFrame:
    """Return a stream with a change from the day of the event on."""
    days = (rows["predict_at"] - rows["predict_at"].min().floor("D")).dt.days
    after = rows[days >= EVENT].reset_index(drop=True)
    return pd.concat([rows[days < EVENT], change(after)], ignore_index=True)


def spoil(share: float, column: str, value: object) -> Plant:
    """Return a change that sets a share of a column to a value."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        chosen = np.random.default_rng(7).uniform(size=len(rows)) < share
        return rows.assign(**{column: rows[column].where(~chosen, value)})

    return change


CHANGES: dict[str, tuple[Plant, tuple[str, str]]] = {
    "shift": (lambda rows: rows.assign(distance=rows["distance"] + 250), ("distance", "distribution")),
    "related": (lambda rows: rows.assign(temp=rows["temp"] + 6), ("temp", "relation")),
    "celsius": (lambda rows: rows.assign(temp=(rows["temp"] - 32) / 1.8), ("temp", "relation")),
    "thousands": (lambda rows: rows.assign(distance=rows["distance"] * 1000), ("distance", "distribution")),
    "new city": (spoil(0.02, "city", "elsewhere"), ("city", "unseen values")),
    "missing": (spoil(0.10, "distance", np.nan), ("distance", "missing values")),
    "three times": (lambda rows: pd.concat([rows] * 3), ("", "volume")),
    "other cities": (lambda rows: rows[rows["city"] < "city 5"], ("city", "distribution")),
}
"""Change by name, and the series that must find it."""
