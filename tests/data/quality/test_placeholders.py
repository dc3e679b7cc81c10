"""Numbers that stand for a missing one, and numbers that are far from others and are real."""

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.placeholders import find_placeholders, mask_placeholders

N = 200
RANDOM = np.random.default_rng(0)


def put(values: np.ndarray, number: float, every: int = 20, start: int = 3) -> np.ndarray:
    """Return values with a number in every so many rows."""
    return np.where(np.arange(len(values)) % every == start, number, values)


def measure(mean: float, spread: float) -> np.ndarray:
    return RANDOM.normal(mean, spread, N).round(1)


FOUND: dict[str, tuple[dict[str, np.ndarray], dict[str, list[float]]]] = {
    "nines": ({"x": put(measure(0, 1), -999)}, {"x": [-999]}),
    "two placeholders": ({"x": put(put(measure(0, 1), -999), 9999, start=7)}, {"x": [9999, -999]}),
    "minus one beside fractions": ({"x": put(RANDOM.uniform(0.2, 0.9, N), -1)}, {"x": [-1]}),
    "survey": ({"x": put(put(RANDOM.integers(1, 6, N), 99), -9, start=5)}, {"x": [99, -9]}),
    "fault of sensors, in the same rows": (
        {"t": put(measure(17, 4), -200), "h": put(measure(42, 6), -200)}, {"t": [-200], "h": [-200]}
    ),
    "fault of sensors, in mostly the same rows": (
        {"t": put(measure(17, 4), -200, every=5), "h": put(measure(42, 6), -200)}, {"t": [-200], "h": [-200]}
    ),
    "well logs": ({"a": put(measure(80, 9), -999.25), "b": put(measure(2, 0.3), -999.25)},
                  {"a": [-999.25], "b": [-999.25]}),
    "largest of 16 bits": ({"a": put(measure(80, 9), 32767), "b": put(measure(2, 3), 32767)}, {"a": [32767], "b": [32767]}),
    "negative where nothing else is": ({"x": put(RANDOM.uniform(5, 30, N).round(1), -200)}, {"x": [-200]}),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "expected"), FOUND.values(), ids=FOUND)
def test_placeholder_is_found(columns: dict[str, np.ndarray], expected: dict[str, list[float]]) -> None:
    found = find_placeholders(pd.DataFrame(columns))
    assert {name: [each.number for each in several] for name, several in found.items()} == expected


@pytest.mark.parametrize(
    "columns",
    [
        {"age": np.array([*range(18, 90), 99, 99, 99])},
        {"wage": put(measure(14, 2).clip(8), 0), "hours": put(measure(38, 2), 0)},  # who does not work
        {"prize": put(RANDOM.integers(1, 9, N), 1_000_000, every=40)},
        {"balance": put(RANDOM.normal(0, 300, N).round(), -999)},
        {"x": np.where(np.arange(N) == 3, -200.0, RANDOM.normal(5, 1, N))},  # one outlier
        {"t": put(measure(17, 4), 200, start=3), "h": put(measure(42, 6), 300, start=3)},
        {"t": put(measure(0, 4), -200, start=3), "h": put(measure(0, 6), -200, start=7)},  # never in one row
        {"flag": RANDOM.integers(0, 2, N), "count": RANDOM.poisson(2, N)},
        {"score": RANDOM.integers(0, 101, N), "rating": RANDOM.integers(1, 6, N)},
    ],
)
def test_honest_numbers_are_no_placeholders(columns: dict[str, np.ndarray]) -> None:
    assert find_placeholders(pd.DataFrame(columns)) == {}


def test_masked_placeholders_are_missing() -> None:
    frame = pd.DataFrame({"x": put(measure(0, 1), -999), "name": "a"})
    masked = mask_placeholders(frame, find_placeholders(frame))
    assert masked["x"].isna().sum() == 10
    assert (frame["x"] == -999).sum() == 10, "the table itself stays as it was"
