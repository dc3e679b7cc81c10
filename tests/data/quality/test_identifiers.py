"""Columns that name rows or whom they are about, and numbers and names that mean something."""

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.identifiers import find_identifier

N = 200
RANDOM = np.random.default_rng(0)
DIFFERENT = RANDOM.permutation(50_000)[:N]


@pytest.mark.parametrize(
    ("name", "values", "is_unnamed", "is_repeated"),
    [
        ("x", np.arange(N) + 1000, False, False),
        ("column_1", DIFFERENT, True, False),
        ("Unnamed: 0", DIFFERENT, False, False),
        ("index", np.sort(DIFFERENT), False, False),
        ("order_no", DIFFERENT, False, False),
        ("caseid", DIFFERENT, False, False),
        ("patient_id", DIFFERENT[RANDOM.integers(0, 60, N)], False, True),
        ("CustomerNumber", DIFFERENT[RANDOM.integers(0, 60, N)], False, True),
        ("Subject", RANDOM.integers(300, 340, N), False, True),
        ("id", np.repeat(np.arange(50), 4), False, True),
        ("customer", [f"C-{n:04d}" for n in RANDOM.integers(0, 90, N)], False, True),
        ("hash", [f"{n:x}" for n in DIFFERENT], False, False),
        ("day of year", [float(n) for n in DIFFERENT], True, False),
    ],
)
def test_identifier_is_found(name: str, values: object, is_unnamed: bool, is_repeated: bool) -> None:
    found = find_identifier(pd.Series(values, name=name), is_unnamed=is_unnamed)
    assert found is not None
    assert found.is_repeated == is_repeated


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dose", np.arange(N) + 20),
        ("wavelength", np.arange(N) + 400),
        ("income", DIFFERENT),
        ("year", np.arange(N) + 1800),
        ("dose", np.arange(N) * 10),
        ("price index", DIFFERENT),
        ("bid", DIFFERENT),
        ("postal code", RANDOM.integers(10_000, 10_150, N)),
        ("altitude", RANDOM.integers(800, 900, N)),
        ("customer age", RANDOM.integers(18, 90, N)),
        ("students", RANDOM.integers(20, 900, N)),
        ("visit number", RANDOM.integers(1, 30, N)),
        ("store_id", RANDOM.integers(1, 40, N)),
        ("user", RANDOM.choice(["guest", "admin"], N)),
        ("comment", [" ".join(RANDOM.choice(["a", "good", "bad", "red", "tea"], 7)) for _ in range(N)]),
        ("price", [f"${n:,}" for n in DIFFERENT]),
        ("day", pd.date_range("2020-01-01", periods=N).strftime("%d/%m/%Y")),
        ("weight", RANDOM.normal(70, 9, N)),
    ],
)
def test_what_means_something_is_no_identifier(name: str, values: object) -> None:
    assert find_identifier(pd.Series(values, name=name)) is None
