"""Small tables for the tests of this package: plain ones, and messy ones."""

import numpy as np
import pandas as pd
from labkit.params.tables import Target

REGRESSION = Target(column="price", task="regression")
TWO_CLASSES = Target(column="late", task="classification", positive="yes")
MANY_CLASSES = Target(column="kind", task="classification")


def make_table(n_rows: int = 120) -> pd.DataFrame:
    """Return a table with every kind of column: full, partly missing, constant, empty, times, strings, targets of all sorts."""
    random = np.random.default_rng(0)
    size = random.normal(10, 3, n_rows)
    return pd.DataFrame(
        {
            "size": size,
            "half full": np.where(random.random(n_rows) < 0.5, np.nan, size + random.normal(0, 0.1, n_rows)),
            "constant": 1.0,
            "empty": np.nan,
            "infinite": np.where(np.arange(n_rows) % 9 == 0, np.inf, size),
            "count": random.poisson(3, n_rows),
            "flag": random.random(n_rows) < 0.3,
            "colour": random.choice(["red", "green", "a very long name of a colour indeed", None], n_rows),
            "when": pd.date_range("2024-01-01", periods=n_rows, freq="h", tz="UTC"),
            "<script>alert(1)</script>": random.normal(size=n_rows),
            "price": size * 7 + random.normal(0, 2, n_rows),
            "late": np.where(size + random.normal(0, 1, n_rows) > 11, "yes", "no"),
            "kind": random.choice([1, 2, 3], n_rows),
        }
    ).astype({"colour": "str"})
