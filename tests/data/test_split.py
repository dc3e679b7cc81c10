"""The split: frozen, disjoint, stratified, and refused where it cannot be made."""

import json

import numpy as np
import pandas as pd
import pytest
from labkit.data.split import describe_split, split_rows
from labkit.errors import DataError
from labkit.params import Data


def make_data(task: str = "classification", **split: object) -> Data:
    """Return params with a target `y`."""
    tree = {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "y", "task": task}, "split": split}
    return Data.model_validate_json(json.dumps(tree))


def make_frame(n_rows: int = 200, share: float = 0.1) -> pd.DataFrame:
    """Return a two-class table."""
    y = np.where(np.arange(n_rows) < n_rows * share, "rare", "common")
    return pd.DataFrame({"x": np.arange(n_rows), "y": y}).rename_axis(index="row")


def test_every_row_is_in_exactly_one_part_and_in_order() -> None:
    frame = make_frame()
    parts = split_rows(frame, make_data(validation=0.2, holdout=0.3), seed=1)
    assert {name: len(part) for name, part in parts.items()} == {"training": 100, "validation": 40, "holdout": 60}
    rows = [row for part in parts.values() for row in part.index]
    assert sorted(rows) == list(range(200))
    assert all(part.index.is_monotonic_increasing for part in parts.values())


def test_classes_keep_their_shares() -> None:
    for part in split_rows(make_frame(), make_data(), seed=1).values():
        assert (part["y"] == "rare").mean() == pytest.approx(0.1, abs=0.01)


def test_same_seed_same_split_other_seed_other_split() -> None:
    frame, data = make_frame(), make_data()
    first, again, other = (describe_split(split_rows(frame, data, seed=seed), data, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["parts"]["holdout"]["rows_sha256"] != other["parts"]["holdout"]["rows_sha256"]


@pytest.mark.parametrize(
    ("frame", "task", "message"),
    [
        (make_frame(10), "classification", "10 rows are left"),
        (make_frame().assign(y=["a"] * 200), "classification", "has one class, 'a'"),
        (
            make_frame().assign(y=["a", "b"] + ["c"] * 198),
            "classification",
            "fewer than 3 rows.*'a' with 1; 'b' with 1",
        ),
        (make_frame().assign(y=[None] + ["a", "b"] * 99 + ["a"]), "classification", r"missing in 1 rows \(0\)"),
        (make_frame(), "regression", "holds 'rare', not numbers"),
    ],
)
def test_target_that_cannot_be_learnt(frame: pd.DataFrame, task: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_rows(frame, make_data(task), seed=1)
