"""Split the rows into training, validation and holdout.

The split is made once, before anything is fitted, and frozen: every later stage reads its part from a separate file.
For cross-validation within the training rows, see `labkit.model.training.comparison`.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from labkit.errors import DataError, list_briefly
from labkit.features.expressions import write_name
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.table_columns import is_numeric
from labkit.params.subject import GENERIC, Subject
from labkit.params.tables import Data, Target
from labkit.params.yaml_lines import write_filter

PARTS = ("training", "validation", "holdout")
ASIDE = "aside"
"""Rows set aside until after the release: no earlier stage reads them."""
RowsOfParts = dict[str, np.ndarray]
FEWEST_ROWS_TO_SPLIT = 20
MOST_CLASSES = 3


def split_rows(frame: pd.DataFrame, data: Data, *, seed: int) -> dict[str, pd.DataFrame]:
    """Split a table at random, by time or by group, into training, validation and holdout rows.

    Parameters
    ----------
    frame
        Shape (n_rows, n_columns), target without missing values.

    Returns
    -------
    dict
        Rows by part, including `ASIDE` if days are set aside; each in order of time if times are declared, otherwise
        in the order of the table. In a split by time, rows of training and validation whose outcome became known only
        after the next part had begun are in no part: see `count_embargoed`.

    Raises
    ------
    DataError
        Too few rows; a missing, infinite or non-numeric target, or one with a single class; a missing or inconsistent
        time; a missing group; an empty part or one with a single class; a class too small to occur in every part; or
        a positive class that does not occur.
    """
    check_target(frame[data.target.column], data)
    if data.time is not None:
        check_order(frame)
        frame = frame.sort_values(PREDICT_AT, kind="stable")
    split = {"random": split_at_random, "time": split_by_time, "group": split_by_group}[data.split.method]
    parts = {name: frame.iloc[np.sort(rows)] for name, rows in split(frame, data, seed).items()}
    return check_parts(parts, data)


def split_at_random(frame: pd.DataFrame, data: Data, seed: int) -> RowsOfParts:
    """Return the positions of each part's rows, drawn at random."""
    target = frame[data.target.column]
    by_class = target if find_strata(data) else None
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
    return {"training": training, "validation": validation, "holdout": holdout}


def split_by_time(frame: pd.DataFrame, data: Data, seed: int) -> RowsOfParts:
    """Return the positions of each part's rows; a part ends when the first day of the next begins."""
    # Outcomes used for training or selection must be known by then, so later ones are under embargo. The holdout is
    # only used for evaluation.
    days = list_days(data)
    numbers, is_late = number_parts(frame, data)
    names = ["training", *days]
    kept = [(numbers == number) & ~is_late for number in range(len(names))]
    for name, number in [(name, number) for number, name in enumerate(names) if not kept[number].any()]:
        if n_late := int((numbers == number).sum()):
            raise DataError(
                f"no outcome of the part {name!r} ({n_late:,} in all) was known before the next part began, on "
                f"{list(days.values())[number]}: move the days in data.split further apart, or correct "
                "data.time.outcome_known_at"
            )
    return {name: np.flatnonzero(rows) for name, rows in zip(names, kept, strict=True)}


def find_starts(data: Data) -> pd.DatetimeIndex:
    """Return when each part after training begins, for splits by time; empty for other methods.

    A part begins at midnight in the zone of `data.time`; where clocks change at midnight, with the day's first moment.
    """
    days = pd.DatetimeIndex(list(list_days(data).values()))
    zone = data.time.zone if data.time else "UTC"
    starts = days.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.ones(len(days), dtype=bool))
    return starts.tz_convert("UTC").as_unit("us")


def number_rows(frame: pd.DataFrame, data: Data) -> np.ndarray:
    """Return the part number of each row in a split by time, 0 for training; without a time, the last part."""
    return np.asarray(find_starts(data).searchsorted(pd.DatetimeIndex(frame[PREDICT_AT]), side="right"))


def mark_explored(frame: pd.DataFrame, data: Data) -> np.ndarray:
    """Return which rows of a table the exploration may describe, shape (n_rows,).

    A split by time is known before the rows are cleaned, so these are the rows before the first day after training.
    Other splits are drawn from clean rows: all rows.

    Parameters
    ----------
    frame
        The joined table, before or after it is cleaned.
    """
    everything = np.ones(len(frame), dtype=bool)
    if data.split.method != "time":
        return everything
    is_training = number_rows(frame, data) == PARTS.index("training")
    # Without any training row, the split itself is refused, and the exploration shows why.
    return is_training if is_training.any() else everything


def take_explored(frame: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Return the rows that `mark_explored` marks; the table itself, not a copy of it, where those are all."""
    is_explored = mark_explored(frame, data)
    return frame if is_explored.all() else frame[is_explored]


def number_parts(frame: pd.DataFrame, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return the part number of each row, and whether its outcome was known too late for it; shapes (n_rows,)."""
    starts, numbers = find_starts(data), number_rows(frame, data)
    known = pd.DatetimeIndex(frame[OUTCOME_KNOWN_AT])
    n_learning = PARTS.index("holdout")
    ends = starts[np.minimum(numbers, n_learning - 1)]
    return numbers, (numbers < n_learning) & ~np.asarray(known <= ends)


def count_embargoed(frame: pd.DataFrame, data: Data) -> dict[str, int]:
    """Return how many rows of each part are left out because their outcome became known after the next part began.

    Parameters
    ----------
    frame
        The table as passed to `split_rows`, shape (n_rows, n_columns).

    Returns
    -------
    dict
        Number of rows by part; empty unless the split is by time.
    """
    if data.split.method != "time":
        return {}
    numbers, is_late = number_parts(frame, data)
    return {name: int(is_late[numbers == number].sum()) for number, name in enumerate(PARTS[:2])}


def split_by_group(frame: pd.DataFrame, data: Data, seed: int) -> RowsOfParts:
    """Return the positions of each part's rows, keeping groups together; groups fill the parts in random order."""
    groups = frame[str(data.split.group)]
    if groups.isna().any():
        raise DataError(f"split.group {groups.name!r} is missing in {groups.isna().sum():,} rows: filter them out")
    codes, values = pd.factorize(groups, sort=True)
    sizes = np.bincount(codes)
    drawn = np.random.default_rng(seed).permutation(len(values))
    # A group is assigned to the part in which its middle row falls.
    middles = (np.cumsum(sizes[drawn]) - sizes[drawn] / 2) / len(frame)
    ends = [data.split.holdout, data.split.holdout + data.split.validation]
    part_of = np.empty(len(values), int)
    part_of[drawn] = np.searchsorted(ends, middles, side="right")
    names = ("holdout", "validation", "training")
    return {name: np.flatnonzero(part_of[codes] == names.index(name)) for name in PARTS}


def list_days(data: Data) -> dict[str, date]:
    """Return the first day of every part after training, for splits by time; empty for other methods."""
    split = data.split
    days = {"validation": split.validation_from, "holdout": split.holdout_from, ASIDE: split.aside_from}
    return {name: day for name, day in days.items() if day is not None}


def check_order(frame: pd.DataFrame) -> None:
    """Reject rows that have no prediction time, or whose outcome is known by that time."""
    asked, known = frame[PREDICT_AT], frame[OUTCOME_KNOWN_AT]
    missing = frame.index[asked.isna()]
    if len(missing):
        raise DataError(
            f"{len(missing):,} rows have no {PREDICT_AT} (rows {list_briefly(map(str, missing))}): filter them out "
            "by the columns that data.time.predict_at names"
        )
    early = frame.index[known <= asked]
    if len(early):
        raise DataError(
            f"{len(early):,} rows have an outcome that is already known at prediction time (first: row {early[0]}, "
            f"known {known[early[0]]}, asked {asked[early[0]]}): filter them out or fix data.time"
        )


def check_parts(parts: dict[str, pd.DataFrame], data: Data) -> dict[str, pd.DataFrame]:
    """Return the parts; reject an empty one, and one with a single class, useless for training and evaluation."""
    for name, rows in parts.items():
        if not len(rows):
            raise DataError(f"the part {name!r} has no rows: change data.split ({data.split.method})")
        if data.target.task == "classification" and name != ASIDE and rows[data.target.column].nunique() < 2:
            label = rows[data.target.column].iloc[0]
            raise DataError(f"the part {name!r} has one class, {label!r}, in {len(rows):,} rows: change data.split")
    return parts


def find_lacking_classes(parts: Mapping[str, pd.DataFrame], data: Data) -> dict[str, list[str]]:
    """Return the classes that each part lacks but another part has; parts with all classes are left out.

    Parameters
    ----------
    parts
        As returned by `split_rows`; `ASIDE` is ignored.
    """
    if data.target.task != "classification":
        return {}
    found = {name: set(part[data.target.column]) for name, part in parts.items() if name != ASIDE}
    every = set().union(*found.values())
    lacking = {name: sorted(map(str, every - classes)) for name, classes in found.items()}
    return {name: classes for name, classes in lacking.items() if classes}


def summarise_targets(parts: Mapping[str, pd.DataFrame], target: Target, *, subject: Subject = GENERIC) -> pd.DataFrame:
    """Return the target in each part: the share of a class, or mean, spread and quartiles of a number.

    Parameters
    ----------
    parts
        Rows by part, as returned by `split_rows`.

    Returns
    -------
    pandas.DataFrame
        One row per part: `part`, `rows`, and `share of <class>` of the class of interest, or of the three largest
        classes if none is declared; for regression `mean`, `std`, `min`, the quartiles and `max`.
    """
    outcomes = {name: part[target.column] for name, part in parts.items()}
    if target.task == "regression":
        lines = [{"part": name, "rows": len(one), **one.describe().drop("count")} for name, one in outcomes.items()]
        return pd.DataFrame(lines)
    largest = pd.concat(list(outcomes.values())).value_counts().index[:MOST_CLASSES].tolist()
    shown = largest if target.positive is None else [target.positive]
    shares = {label: f"share of {subject.name_class(label)}" for label in shown}
    return pd.DataFrame(
        {"part": name, "rows": len(one), **{named: float((one == label).mean()) for label, named in shares.items()}}
        for name, one in outcomes.items()
    )


def check_target(target: pd.Series, data: Data) -> None:
    """Reject a target that cannot be learned or split by."""
    name = target.name
    if len(target) < FEWEST_ROWS_TO_SPLIT:
        raise DataError(
            f"{len(target)} rows are left: at least {FEWEST_ROWS_TO_SPLIT} are needed for training, validation "
            "and holdout"
        )
    missing = target.index[target.isna()]
    if len(missing):
        rows = list_briefly(str(row) for row in missing)
        raise DataError(
            f"target {name!r} is missing in {len(missing):,} rows ({rows}): filter them out with "
            + write_filter(f"not missing({write_name(str(name))})")
        )
    if data.target.task == "regression":
        if not is_numeric(target):
            raise DataError(
                f"target {name!r} holds {target.iloc[0]!r}, not numbers: set data.target.task: classification"
            )
        infinite = target.index[np.isinf(target.to_numpy(dtype="float64"))]
        if len(infinite):
            rows = list_briefly(str(row) for row in infinite)
            raise DataError(
                f"target {name!r} is infinite in {len(infinite):,} rows ({rows}): filter them out with "
                + write_filter(f"abs({write_name(str(name))}) < 1e300")
            )
        return
    counts = target.value_counts()
    if len(counts) < 2:
        raise DataError(f"target {name!r} has one class, {counts.index[0]!r}: there is nothing to classify")
    small = counts[counts < 3]
    if find_strata(data) and len(small):
        named = list_briefly(f"{label!r} with {count}" for label, count in small.items())
        remedy = write_filter(f"{write_name(str(name))} != {small.index.tolist()[0]!r}")
        raise DataError(
            f"target {name!r}: classes with fewer than 3 rows cannot be in every part: {named}: leave them out with "
            f"{remedy}, or set data.split.stratify: false"
        )
    positive = data.target.positive
    if positive is not None and positive not in set(counts.index):
        found = list_briefly(repr(label) for label in counts.index)
        raise DataError(f"data.target.positive: no class {positive!r} in {name!r}: it has {found}")


def describe_split(
    parts: dict[str, pd.DataFrame], data: Data, *, seed: int, embargoed: Mapping[str, int]
) -> dict[str, Any]:
    """Return a description of a split as plain data, with a digest of each part's rows.

    Parameters
    ----------
    embargoed
        As returned by `count_embargoed`.
    """
    total = sum(len(part) for part in parts.values())
    method = data.split.method
    return {
        "method": method,
        "seed": None if method == "time" else seed,
        "stratified_by": find_strata(data),
        "group": data.split.group,
        "embargoed": dict(embargoed),
        "first_days": {name: day.isoformat() for name, day in list_days(data).items()},
        "parts": {name: describe_part(part, total) for name, part in parts.items()},
    }


def describe_part(part: pd.DataFrame, total: int) -> dict[str, Any]:
    """Return the size, the digest and, if times are declared, the first and last time of one part."""
    described: dict[str, Any] = {
        "rows": len(part),
        "share": round(len(part) / total, 6),
        "rows_sha256": hashlib.sha256(part.index.to_numpy(dtype="int64").tobytes()).hexdigest(),
    }
    if PREDICT_AT in part:
        described |= {"first": part[PREDICT_AT].iloc[0].isoformat(), "last": part[PREDICT_AT].iloc[-1].isoformat()}
    return described


def find_strata(data: Data) -> str | None:
    """Return the column that the split is stratified by, or None."""
    is_stratified = data.split.method == "random" and data.split.stratify and data.target.task == "classification"
    return data.target.column if is_stratified else None
