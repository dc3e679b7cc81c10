"""What missingness reveals about the target: found where the rows are enough to be sure, and nothing where they are not."""

from collections.abc import Sequence

import numpy as np
import pytest
from labkit.data.quality.evidence import Rows
from labkit.data.quality.missingness import FILLED_AFTER, FILLED_WITH, find_missing_leak

Group = tuple[object, int, int]
"""A class, or a number; its rows; and in how many of them the column is filled."""


def make_case(groups: Sequence[Group]) -> tuple[np.ndarray, Rows]:
    """Return where a column is filled, and the target; a group called None has no target."""
    filled = np.concatenate([np.arange(n_rows) < n_filled for _, n_rows, n_filled in groups])
    labels = [label for label, n_rows, _ in groups for _ in range(n_rows)]
    is_known = np.array([label is not None for label in labels])
    known = [label for label in labels if label is not None]
    if all(isinstance(label, str) for label in known):
        classes = list(dict.fromkeys(known))
        return filled, Rows(is_known, np.array([classes.index(label) for label in known]), classes, 0.001)
    # A number of its own for each row, in an order that has nothing to do with it.
    jitter = np.random.default_rng(0).permutation(len(known)) / len(known)
    return filled, Rows(is_known, np.array(known, "float64") + jitter, (), 0.001)


SURE: list[tuple[Sequence[Group], str]] = [
    ([("yes", 88, 88), ("no", 112, 6)], "filled in 88 of 88 rows with 'yes' and in 6 of 112 others, which explains 88.6 %"),
    ([("yes", 30, 30), ("no", 30, 0)], "filled in 30 of 30 rows with 'yes' and in 0 of 30 others, which explains 100 %"),
    ([("no", 150, 1), ("yes", 50, 41)], "filled in 41 of 50 rows with 'yes' and in 1 of 150 others"),
    ([("a", 90, 89), ("b", 90, 90), ("c", 90, 2), ("d", 90, 0)], "filled in 179 of 180 rows with 'b' or 'a' and in 2 of"),
    ([(0, 60, 0), (1, 140, 140)], "filled in 140 of 140 rows with a target above 0.99"),
]  # fmt: skip


@pytest.mark.parametrize(("groups", "evidence"), SURE)
def test_filled_after_the_outcome_is_found(groups: Sequence[Group], evidence: str) -> None:
    leak = find_missing_leak(*split(groups))
    assert leak is not None
    assert (leak.kind, leak.is_sure) == (FILLED_AFTER, True)
    assert leak.evidence.startswith(evidence)


def split(groups: Sequence[Group]) -> tuple[np.ndarray, np.ndarray, Rows]:
    """Return the arguments of `find_missing_leak`, no row blank."""
    filled, rows = make_case(groups)
    return filled, np.zeros(len(filled), bool), rows


@pytest.mark.parametrize(
    "groups",
    [
        [("yes", 131, 131), ("no", 269, 267)],  # 2 of 400 values missing
        [("yes", 110, 110), ("no", 130, 129)],  # 1 of 240
        [("yes", 120, 96), ("no", 280, 112)],  # informative: 80 % against 40 %
        [("yes", 120, 114), ("no", 280, 84)],  # very informative: 95 % against 30 %
        [("yes", 6, 6), ("no", 6, 0)],  # too few rows to be sure
        [("yes", 3, 3), ("no", 397, 0)],
        [("a", 40, 4), ("b", 40, 5), ("c", 40, 3)],  # hardly ever filled, in no class more than in another
        [(None, 1, 0), ("yes", 200, 200), ("no", 199, 199)],  # one row without a target
        [(0, 100, 60), (1, 100, 95)],  # of a number
        [(0, 12, 0), (1, 188, 150)],
    ],
)
def test_honest_missing_values_are_no_leak(groups: Sequence[Group]) -> None:
    leak = find_missing_leak(*split(groups))
    assert leak is None or not leak.is_sure


def test_never_filled_in_a_class_but_weakly_predictive_is_a_suspicion() -> None:
    leak = find_missing_leak(*split([("dead", 809, 121), ("alive", 500, 0)]))
    assert leak is not None
    assert (leak.evidence, leak.is_sure) == ("filled in 121 of 809 rows with 'dead' and in 0 of 500 others", False)


def test_filled_with_the_target_is_a_suspicion_unless_the_rows_without_are_blank() -> None:
    filled, rows = make_case([(None, 30, 0), ("yes", 100, 100), ("no", 100, 100)])
    leak = find_missing_leak(filled, np.zeros(len(filled), bool), rows)
    assert leak is not None
    assert (leak.kind, leak.is_sure) == (FILLED_WITH, False)
    assert leak.evidence == "filled in 200 of 200 rows with a target and in 0 of 30 without"
    assert find_missing_leak(filled, ~rows.is_known, rows) is None


@pytest.mark.parametrize("fill", [(0.9, 0.5), (0.6, 0.2), (0.5, 0.5), (0.99, 0.99), (0.02, 0.02)])
def test_no_honest_column_of_many_is_a_sure_leak(fill: tuple[float, float]) -> None:
    random = np.random.default_rng(1)
    n_sure = 0
    for _ in range(300):
        is_yes = random.random(80) < 0.4
        filled = random.random(80) < np.where(is_yes, *fill)
        rows = Rows(np.ones(80, bool), is_yes.astype(int), ["no", "yes"], 0.01)
        leak = find_missing_leak(filled, np.zeros(80, bool), rows)
        n_sure += leak is not None and leak.is_sure
    assert n_sure == 0
