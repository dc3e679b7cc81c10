"""Detect columns that are the target in another form: recoded, in another unit, in finer classes or in ranges.

Columns are examined one at a time; for a target that follows from several columns, see `labkit.data.quality.formula`.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import special

from labkit.data.quality.evidence import (
    ALPHA,
    FEW_ERRORS,
    FEWEST_ROWS,
    SMOOTH,
    Leak,
    Rows,
    bound_errors,
    compute_smoothness,
    floor_percent,
)
from labkit.features.table_columns import find_column_kind
from labkit.units import format_count

FEW_ERRORS_OF_CODE, ENOUGH_OF_CLASS = 1 / 4, 30
"""As `FEW_ERRORS`, for a column with as many values as the target has classes; or the rows required in each class."""
COVERED = 0.8
"""Minimum share of rows whose value occurs at least twice, so that single occurrences do not matter."""
ROUNDED, TYPICALLY = 1e-5, 0.003
"""Largest shares of the variance and of the typical deviation that rounding may leave unexplained in a copy."""
NEARLY_ALIKE = 0.999
"""Minimum share of the variance that a near copy explains."""
MOST_RANGES = 50
NEIGHBOURS = 10
"""Number of distances between target values, on each side of a border, that the one at the border is compared with."""
COPY, NEAR_COPY = "copy of the target", "near copy of the target"
FINER, RANGES = "finer classes of the target", "ranges of the target"
EXPLAINS = "explains the target by itself"


def find_target_copy(values: pd.Series, rows: Rows) -> Leak | None:
    """Return a leak if a column is the target in another form, or None."""
    known = values[rows.is_known]
    if find_column_kind(values) == "time":
        return None
    is_there = known.notna().to_numpy()
    known, y_true = known[is_there], rows.values[is_there]
    if len(known) < FEWEST_ROWS:
        return None
    is_number = find_column_kind(known) == "number"
    if rows.classes:
        is_continuous = is_number and has_fractions(known)
        leak = find_class_copy(pd.factorize(known)[0], y_true, rows, len(is_there), is_continuous=is_continuous)
        return leak or (find_separation(known.to_numpy(dtype="float64"), y_true, rows) if is_number else None)
    if is_number and (leak := find_number_copy(known.to_numpy(dtype="float64"), y_true, rows)):
        return leak
    codes = pd.factorize(known)[0]
    return None if is_number and codes.max() > 1 else find_ranges(codes, y_true, rows)


def has_fractions(values: pd.Series) -> bool:
    """Return whether some numbers are not integers, which indicates measurements rather than codes."""
    numbers = values.to_numpy(dtype="float64", na_value=np.nan)
    return bool((numbers[np.isfinite(numbers)] % 1 != 0).any())


def find_class_copy(
    codes: np.ndarray, y_true: np.ndarray, rows: Rows, n_rows: int, *, is_continuous: bool = False
) -> Leak | None:
    """Return a leak if each value of a column belongs to a single class of the target, or None."""
    # With as many values as classes, it is the target under another name. With more, they are finer classes if nearly
    # all values repeat, because a value that occurs once always belongs to one class. Consecutive rows with the same
    # value may describe one entity, so they count once.
    n_values, n_classes = int(codes.max()) + 1, len(np.unique(y_true))
    if n_classes < 2 or len(np.unique(codes * len(rows.classes) + y_true)) > n_values:
        return None
    sizes = np.bincount(y_true)
    if n_values == n_classes:
        # Log of the number of ways to assign the values to the rows, per assignment that matches the classes.
        log_ways = special.gammaln(len(y_true) + 1) - special.gammaln(sizes + 1).sum() - special.gammaln(n_classes + 1)
        if log_ways <= -np.log(rows.alpha):
            return None
        evidence = f"the target under another name, each of its {n_values} values corresponds to one class"
        is_sure = bound_errors(0, y_true, rows.alpha) <= FEW_ERRORS_OF_CODE or sizes[sizes > 0].min() >= ENOUGH_OF_CLASS
        return Leak(COPY, evidence, is_sure=bool(is_sure))
    if is_continuous:
        return None
    is_covered = np.bincount(codes)[codes] > 1
    is_first = np.diff(codes, prepend=-1) != 0
    bound = bound_errors(0, y_true[is_covered & is_first], rows.alpha)
    if is_covered.sum() < COVERED * n_rows or bound > 0.5:
        return None
    evidence = (
        f"each of its {n_values:,} values corresponds to one class of the target, in {format_count(len(y_true), 'row')}"
    )
    return Leak(FINER, evidence, is_sure=bound <= FEW_ERRORS)


def find_separation(values: np.ndarray, y_true: np.ndarray, rows: Rows) -> Leak | None:
    """Return a leak if each class of the target has its own range of a numeric column, or None."""
    order = np.lexsort((y_true, values))
    is_border = np.diff(y_true[order]) != 0
    n_classes = len(np.unique(y_true))
    if n_classes < 2 or is_border.sum() >= n_classes or (np.diff(values[order])[is_border] == 0).any():
        return None
    bound = bound_errors(0, y_true, rows.alpha)
    if bound > 1 or is_counter(values, y_true):
        return None
    evidence = f"each of the {n_classes} classes has its own range of values, in {format_count(len(y_true), 'row')}"
    return Leak(EXPLAINS, evidence, is_sure=bound <= FEW_ERRORS)


def is_counter(values: np.ndarray, codes: np.ndarray) -> bool:
    """Return whether numbers only rise or only fall in a table sorted by class, as any row counter does."""
    steps = np.diff(values)
    return count_equal_runs(codes) == len(np.unique(codes)) and bool((steps > 0).all() or (steps < 0).all())


def find_number_copy(values: np.ndarray, y_true: np.ndarray, rows: Rows) -> Leak | None:
    """Return a leak if the target is a function of a numeric column, exactly or nearly, or None."""
    # A near copy is only a suspicion: a legitimate column may be as close, such as the population of the year before.
    is_finite = np.isfinite(values)
    values, y_true = values[is_finite], y_true[is_finite]
    if len(values) < FEWEST_ROWS or values.std() == 0 or y_true.std() == 0:
        return None
    # In a time series, anything that rises with time correlates with the target, so the changes have to agree too.
    if rows.is_series and correlate(np.diff(values), np.diff(y_true)) ** 2 < SMOOTH:
        return None
    for named, transformed, goal in list_scales(values, y_true):
        if is_exact(transformed, goal):
            evidence = f"{named} lie on a straight line, which explains {floor_percent(1 - ROUNDED)} of the variance"
            return Leak(COPY, evidence, is_sure=True)
    explained = compute_smoothness(values, y_true)
    if explained < NEARLY_ALIKE:
        return None
    evidence = f"a curve through its values explains {floor_percent(explained)} of the target"
    return Leak(NEAR_COPY, evidence, is_sure=False)


def list_scales(values: np.ndarray, y_true: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the scales on which a column may be the target in another unit: name, transformed column and target."""
    yield "target and column", values, y_true
    if (values > 0).all():
        yield "the target and its logarithm", np.log(values), y_true
        yield "the target and its square root", np.sqrt(values), y_true
        yield "the target and its reciprocal", 1 / values, y_true
    yield "the target and its square", values**2, y_true
    if (y_true > 0).all():
        yield "the target's logarithm and the column", np.log(y_true), values


def is_exact(values: np.ndarray, y_true: np.ndarray) -> bool:
    """Return whether the target is linear in a column up to rounding, and not only because of extreme rows."""
    if values.std() == 0 or 1 - correlate(values, y_true) ** 2 > ROUNDED:
        return False
    slope = float(np.cov(values, y_true)[0, 1] / values.var(ddof=1))
    left_over = y_true - slope * values
    return compute_spread(left_over) <= TYPICALLY * compute_spread(y_true)


def compute_spread(values: np.ndarray) -> float:
    """Return the median absolute deviation from the median, which is robust to extreme values."""
    return float(np.median(np.abs(values - np.median(values))))


def find_ranges(codes: np.ndarray, y_true: np.ndarray, rows: Rows) -> Leak | None:
    """Return a leak if each value of a column stands for its own range of the target, or None."""
    n_values = int(codes.max()) + 1
    sizes = np.bincount(codes)
    # A column that is also sorted in the table may only follow time, as the target does.
    if not 2 <= n_values <= MOST_RANGES or count_equal_runs(codes) <= n_values:
        return None
    order = np.lexsort((codes, y_true))
    if count_equal_runs(codes[order]) > n_values or len(np.unique(y_true)) <= 2 * n_values:
        return None
    is_end = np.diff(codes[order]) != 0
    if (np.diff(y_true[order])[is_end] == 0).any():
        return None
    log_ways = special.gammaln(len(codes) + 1) - special.gammaln(sizes + 1).sum() - special.gammaln(n_values + 1)
    if log_ways <= -np.log(rows.alpha):
        return None
    evidence = f"each of its {n_values} values corresponds to its own range of the target"
    is_sure = bound_errors(0, codes, rows.alpha) <= FEW_ERRORS and not lie_apart(codes[order], y_true[order])
    return Leak(RANGES, evidence, is_sure=is_sure)


def lie_apart(codes: np.ndarray, y_true: np.ndarray) -> bool:
    """Return whether all ranges of the sorted target lie further apart than the values within them."""
    # Binning the target puts borders where its values are dense. A legitimate column, such as the species of an animal
    # whose weight is the target, may have ranges far apart. Distances between neighbours are assumed exponential.
    ends = np.flatnonzero(np.diff(codes) != 0)
    distinct, place = np.unique(y_true, return_inverse=True)
    steps = np.diff(distinct)
    for border in place[ends]:
        near = np.concatenate(
            [steps[max(border - NEIGHBOURS, 0) : border], steps[border + 1 : border + 1 + NEIGHBOURS]]
        )
        if steps[border] <= np.log(len(ends) / ALPHA) * near.mean():
            return False
    return True


def count_equal_runs(codes: np.ndarray) -> int:
    """Return the number of runs of equal values.

    >>> count_equal_runs(np.array([1, 1, 2, 1]))
    3
    """
    return int((np.diff(codes) != 0).sum()) + 1


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Return the absolute correlation of two columns without missing values; 0 where one is constant."""
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return 0.0
    return abs(float(np.corrcoef(first, second)[0, 1]))
