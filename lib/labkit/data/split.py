"""Which rows train, choose and judge.

The split is made once, before anything is fitted, and frozen: every later stage reads its part from a file of its
own. Not how folds are cut inside the training rows: that is `labkit.model.automl`.
"""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from labkit.errors import DataError, list_briefly
from labkit.params import Data

PARTS = ("training", "validation", "holdout")
FEWEST_ROWS = 20


def split_rows(frame: pd.DataFrame, data: Data, *, seed: int) -> dict[str, pd.DataFrame]:
    """Split a table at random into training, validation and holdout rows, each in the table's order.

    Parameters
    ----------
    frame
        Shape (n_rows, n_columns), target without missing values.

    Raises
    ------
    DataError
        Too few rows, a missing target, or a class too small to stand in every part.
    """
    target = frame[data.target.column]
    check_target(target, data)
    by_class = target if data.target.task == "classification" and data.split.stratify else None
    rows = np.arange(len(frame))
    holdout_rows = max(1, round(len(frame) * data.split.holdout))
    validation_rows = max(1, round(len(frame) * data.split.validation))
    rest, holdout = train_test_split(rows, test_size=holdout_rows, random_state=seed, stratify=by_class)
    training, validation = train_test_split(
        rest,
        test_size=validation_rows,
        random_state=seed,
        stratify=None if by_class is None else by_class.iloc[rest],
    )
    chosen = {"training": training, "validation": validation, "holdout": holdout}
    return {part: frame.iloc[np.sort(chosen[part])] for part in PARTS}


def check_target(target: pd.Series, data: Data) -> None:
    """Refuse a target that cannot be learnt from or split by."""
    name = target.name
    if len(target) < FEWEST_ROWS:
        raise DataError(f"{len(target)} rows are left: at least {FEWEST_ROWS} are needed to train, choose and judge")
    missing = target.index[target.isna()]
    if len(missing):
        rows = list_briefly(str(row) for row in missing)
        raise DataError(
            f"target {name!r} is missing in {len(missing):,} rows ({rows}): filter them out with "
            f"wrangling.filters: ['not missing({name})']"
        )
    if data.target.task == "regression":
        if not pd.api.types.is_numeric_dtype(target):
            raise DataError(
                f"target {name!r} holds {target.iloc[0]!r}, not numbers: set data.target.task: classification"
            )
        return
    counts = target.value_counts()
    if len(counts) < 2:
        raise DataError(f"target {name!r} has one class, {counts.index[0]!r}: there is nothing to tell apart")
    small = counts[counts < 3]
    if data.split.stratify and len(small):
        named = list_briefly(f"{label!r} with {count}" for label, count in small.items())
        raise DataError(f"target {name!r}: classes with fewer than 3 rows cannot stand in every part: {named}")
    positive = data.target.positive
    if positive is not None and positive not in set(counts.index):
        found = list_briefly(repr(label) for label in counts.index)
        raise DataError(f"data.target.positive: no class {positive!r} in {name!r}: it has {found}")


def describe_split(parts: dict[str, pd.DataFrame], data: Data, *, seed: int) -> dict[str, Any]:
    """Return what a split is made of, with a digest of each part's rows."""
    total = sum(len(part) for part in parts.values())
    described = {
        name: {
            "rows": len(part),
            "share": round(len(part) / total, 6),
            "rows_sha256": hashlib.sha256(part.index.to_numpy(dtype="int64").tobytes()).hexdigest(),
        }
        for name, part in parts.items()
    }
    return {"method": "random", "seed": seed, "stratified_by": find_strata(data), "parts": described}


def find_strata(data: Data) -> str | None:
    """Return the column whose shares are equal in all parts, if any."""
    is_stratified = data.split.stratify and data.target.task == "classification"
    return data.target.column if is_stratified else None
