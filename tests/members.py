"""The members of a gym, of which some cancel: a table with dates, free text, categories and missing values."""

from pathlib import Path

import numpy as np
import pandas as pd

N_MEMBERS = 600
REMARKS = {
    "happy": ["likes the morning courses", "brings friends along", "asked about swimming lessons", "trains for a race"],
    "neutral": ["asked for the opening hours", "has a new card", "parks in the yard", "prefers letters to mail"],
    "unhappy": ["complained about the showers", "found the courses full", "moved to another town", "has a bad knee"],
}
STAFF = ["Ana", "Boris", "Chloe", "Dmitri", "Elif", "Farid", "Greta", "Hugo"]


def make_members(n_rows: int = N_MEMBERS, *, seed: int = 7) -> pd.DataFrame:
    """Return one row per member; they cancel if a visit costs them much, if they complain, or out of the blue."""
    rng = np.random.default_rng(seed)
    plan = rng.choice(["basic", "plus", "family"], n_rows, p=[0.5, 0.3, 0.2])
    fee = np.select([plan == "basic", plan == "plus"], [29.0, 49.0], 79.0) - rng.choice([0, 5, 10], n_rows)
    visits = rng.poisson(rng.gamma(2.0, 2.5, n_rows))
    mood = rng.choice([*REMARKS], n_rows, p=[0.3, 0.45, 0.25])
    joined = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 900, n_rows), unit="D")
    pressure = -2.2 + 0.09 * fee / np.maximum(visits, 0.5) + 1.6 * (mood == "unhappy") - 0.8 * (mood == "happy")
    cancelled = rng.random(n_rows) < 1 / (1 + np.exp(-pressure))
    age = np.where(rng.random(n_rows) < 0.08, np.nan, rng.integers(16, 80, n_rows))
    remark = [
        f"{rng.choice(REMARKS[one])}, {rng.choice(REMARKS['neutral'])}; noted by {rng.choice(STAFF)} on day {day}"
        for one, day in zip(mood, rng.integers(1, 90, n_rows), strict=True)
    ]
    return pd.DataFrame(
        {
            "member": [f"M{number:05d}" for number in rng.permutation(n_rows) + 10_000],
            "joined": joined.strftime("%Y-%m-%d"),
            "plan": plan,
            "fee": fee,
            "visits": visits,
            "age": age,
            "remark": remark,
            "cancelled": np.where(cancelled, "yes", "no"),
        }
    )


def write_members(path: Path, n_rows: int = N_MEMBERS) -> Path:
    """Write the table as CSV and return its path."""
    make_members(n_rows).to_csv(path, index=False)
    return path
