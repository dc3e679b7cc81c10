"""Columns that are the target in another form, and legitimate ones that are nearly as predictive."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.copies import COPY, EXPLAINS, FINER, NEAR_COPY, RANGES, find_target_copy
from labkit.data.quality.evidence import Leak, make_target_rows

N = 300
RANDOM = np.random.default_rng(3)
CLASSES = RANDOM.choice(["a", "b", "c"], N)
NUMBERS = np.round(np.exp(RANDOM.normal(3, 0.7, N)), 2)
WALK = RANDOM.normal(size=N).cumsum() + np.arange(N)


def look(values: object, target: object, task: str) -> Leak | None:
    """Return what is found of a column among ten."""
    return find_target_copy(pd.Series(values), make_target_rows(pd.Series(target), task, 10))


def recode(label: str) -> int:
    return {"a": 30, "b": 10, "c": 20}[label]


FOUND: dict[str, tuple[Callable[[], object], object, str, str, bool]] = {
    "code": (lambda: [recode(label) for label in CLASSES], CLASSES, "classification", COPY, True),
    "code, missing in some rows": (
        lambda: [None if n % 7 == 0 else recode(label) for n, label in enumerate(CLASSES)],
        CLASSES, "classification", COPY, True,
    ),
    "finer classes": (
        lambda: [f"{label}{n % 5}" for n, label in enumerate(CLASSES)], CLASSES, "classification", FINER, True
    ),
    "finer classes, few rows": (
        lambda: [f"{label}{n % 2}" for n, label in enumerate(CLASSES[:40])], CLASSES[:40], "classification", FINER, False
    ),
    "near copy": (
        lambda: [recode(label) + noise for label, noise in zip(CLASSES, RANDOM.normal(size=N), strict=True)],
        CLASSES, "classification", EXPLAINS, True,
    ),
    "another unit": (lambda: 1.8 * NUMBERS + 32, NUMBERS, "regression", COPY, True),
    "rounded": (lambda: np.round(NUMBERS, 1), NUMBERS, "regression", COPY, True),
    "logarithm": (lambda: np.log(NUMBERS), NUMBERS, "regression", COPY, True),
    "exponential": (lambda: NUMBERS, np.log(NUMBERS), "regression", COPY, True),
    "noise of one per cent": (
        lambda: NUMBERS + RANDOM.normal(0, NUMBERS.std() / 100, N), NUMBERS, "regression", NEAR_COPY, False
    ),
    "ranges": (lambda: pd.cut(NUMBERS, 4, labels=list("zwyx")).astype(str), NUMBERS, "regression", RANGES, True),
    "ranges far apart, as of an honest category": (
        lambda: np.repeat(["mouse", "cow"], N // 2)[np.argsort(NUMBERS)],
        np.where(np.repeat([True, False], N // 2), 0.03, 600)[np.argsort(NUMBERS)] * RANDOM.normal(1, 0.1, N),
        "regression", RANGES, False,
    ),
    "above a threshold": (lambda: np.median(NUMBERS) < NUMBERS, NUMBERS, "regression", RANGES, True),
    "copy of a series": (lambda: 2 * WALK + 1, WALK, "regression", COPY, True),
}  # fmt: skip


@pytest.mark.parametrize(("make", "target", "task", "kind", "is_sure"), FOUND.values(), ids=FOUND)
def test_target_in_another_form_is_found(
    make: Callable[[], object], target: object, task: str, kind: str, is_sure: bool
) -> None:
    leak = look(make(), target, task)
    assert leak is not None
    assert (leak.kind, leak.is_sure) == (kind, is_sure)


HONEST: dict[str, tuple[Callable[[], object], object, str]] = {
    "measurement of few patients with many rows each": (
        lambda: np.repeat(np.arange(20) / 10 + 30, N // 20), np.repeat(RANDOM.permutation([*"aabb"] * 5), N // 20),
        "classification",
    ),
    "age of few patients in order": (
        lambda: np.repeat(RANDOM.permutation(20) + 30, N // 20), np.repeat([*"aabb"] * 5, N // 20), "classification"
    ),
    "quarter of a series in order of time": (lambda: np.arange(N) % 4, 1990 + np.arange(N) // 4, "regression"),
    "names that occur once": (lambda: [f"name {n}" for n in range(N)], CLASSES, "classification"),
    "names that mostly occur once": (
        lambda: [f"{label}{n % 250}" for n, label in enumerate(CLASSES)], CLASSES, "classification"
    ),
    "category that foretells well": (
        lambda: np.where(RANDOM.random(N) < 0.95, CLASSES, "b"), CLASSES, "classification"
    ),
    "number that foretells well": (
        lambda: [recode(label) + noise for label, noise in zip(CLASSES, RANDOM.normal(0, 4, N), strict=True)],
        CLASSES, "classification",
    ),
    "counter in a table in order of its classes": (lambda: np.arange(N) + 0.5, sorted(CLASSES), "classification"),
    "constant": (lambda: np.ones(N), CLASSES, "classification"),
    "number with a tenth of noise": (lambda: NUMBERS * RANDOM.normal(1, 0.1, N), NUMBERS, "regression"),
    "category of different means": (
        lambda: pd.cut(NUMBERS * RANDOM.normal(1, 0.1, N), 4, labels=list("zwyx")).astype(str), NUMBERS, "regression"
    ),
    "price list": (lambda: [f"item {n % 12}" for n in range(N)], [float(n % 12) for n in range(N)], "regression"),
    "year of a growing series": (lambda: np.arange(N) // 12 + 1990, WALK + np.arange(N) * 5, "regression"),
    "month of a growing series": (lambda: np.arange(N), WALK + np.arange(N) * 5, "regression"),
    "another growing series": (lambda: RANDOM.normal(size=N).cumsum() + np.arange(N), WALK, "regression"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "target", "task"), HONEST.values(), ids=HONEST)
def test_honest_column_is_no_copy(make: Callable[[], object], target: object, task: str) -> None:
    assert look(make(), target, task) is None


def test_a_heavy_tail_makes_no_copy() -> None:
    people = np.exp(np.random.default_rng(0).normal(14, 2, 200))
    grown = people * np.random.default_rng(1).normal(1.01, 0.01, 200)
    leak = look(people, grown, "regression")
    assert leak is None or not leak.is_sure
