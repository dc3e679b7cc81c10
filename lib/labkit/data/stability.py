"""How the target and the columns of a table change over time.

Nothing is changed here. The plots are in `labkit.view.time_plots`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data.split import PARTS, number_rows
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.table_columns import find_column_kind
from labkit.params.tables import Data, Target

DRIFT_COLUMNS = ("column", "drift", "by_luck", "earlier", "later")
LATER_SHARE = 0.4


LONG_DAYS = 400


SLICES = 10


FEWEST_ROWS_OF_MEAN = 10


COUNTS_TIME = 0.95
MOST_RANKED = 100_000
"""Rank correlation from which a column counts time, and the number of rows up to which all are ranked."""


DISTINCT_SHARE = 0.2
"""Distinct strings per row above which a column identifies rows: later values are new even without drift."""


NOTABLE_DRIFT = 0.1


BY_LUCK = 0.001
"""Probability with which a column without drift may be reported."""
LARGE_DRIFT = 0.25
"""Common thresholds of the population stability index: below 0.1 stable, above 0.25 a shift (Siddiqi, 2006)."""


def compute_outcome(frame: pd.DataFrame, target: Target) -> pd.Series:
    """Return the quantity that is averaged: the target itself, or an indicator of one class.

    The class is `target.positive`, or the most frequent one. Shape (n_rows,); NaN where the target is missing.
    """
    outcomes = frame[target.column]
    if target.task == "regression":
        return outcomes.astype("float64")
    picked = target.positive if target.positive is not None else outcomes.mode().iloc[0]
    return (outcomes == picked).astype("float64").where(outcomes.notna())


@np.errstate(over="ignore", invalid="ignore")
def compute_over_time(
    frame: pd.DataFrame, target: Target, *, span_days: int | None = None, zone: str = "UTC"
) -> pd.DataFrame:
    """Return the target by week, or by month where the table is longer than 400 days.

    Parameters
    ----------
    span_days
        Time span in days of the whole table if `frame` is a part of it, so that all parts use the same period.
    zone
        Time zone of the periods.

    Returns
    -------
    pandas.DataFrame
        `start` (first day of the period), `rows` (with a known target), `mean`; empty if no times are declared.
    """
    if PREDICT_AT not in frame or frame[PREDICT_AT].notna().sum() == 0:
        return pd.DataFrame({"start": [], "rows": [], "mean": []})
    times = frame[PREDICT_AT].dt.tz_convert(zone).dt.tz_localize(None)
    span = (times.max() - times.min()).days if span_days is None else span_days
    starts = times.dt.to_period("M" if span > LONG_DAYS else "W").dt.start_time
    grouped = compute_outcome(frame, target).groupby(starts)
    found = pd.DataFrame({"rows": grouped.count(), "mean": grouped.mean()}).rename_axis("start").reset_index()
    return found[found["rows"] > 0].reset_index(drop=True)


@np.errstate(over="ignore", invalid="ignore")
def compute_by_key(
    frame: pd.DataFrame, target: Target, key: str, *, period: str = "M", most: int = 10, zone: str = "UTC"
) -> pd.DataFrame:
    """Return the mean target by period for a column's most frequent values: one row per value, one column per period.

    Means of fewer than `FEWEST_ROWS_OF_MEAN` rows are NaN; values and periods without any mean are left out.

    Parameters
    ----------
    key
        Column whose values are compared.
    period
        pandas period: "M" for months, "Q" for quarters, "Y" for years.
    most
        Maximum number of values.
    zone
        Time zone of the periods.
    """
    common = frame[key].value_counts().index[:most]
    is_chosen = frame[key].isin(common) & frame[PREDICT_AT].notna()
    chosen = frame.loc[is_chosen, list(dict.fromkeys([key, target.column, PREDICT_AT]))]
    periods = chosen[PREDICT_AT].dt.tz_convert(zone).dt.tz_localize(None).dt.to_period(period).astype(str)
    grouped = compute_outcome(chosen, target).groupby([chosen[key], periods], observed=True)
    table = (
        grouped.mean()
        .where(grouped.count() >= FEWEST_ROWS_OF_MEAN)
        .unstack()
        .dropna(axis=1, how="all")
        .dropna(how="all")
    )
    return table.loc[table.mean(axis=1).sort_values(ascending=False).index]


def mark_compared(frame: pd.DataFrame, data: Data) -> tuple[pd.Series, pd.Series]:
    """Return which rows are compared with which: those of training and holdout, else the first and last in time."""
    times = frame[PREDICT_AT]
    if data.split.method == "time":
        numbers = number_rows(frame, data)
        return times.notna() & (numbers == PARTS.index("training")), times.notna() & (numbers == PARTS.index("holdout"))
    is_later = times >= times.quantile(1 - LATER_SHARE)
    return ~is_later, is_later


@np.errstate(over="ignore", invalid="ignore")
def compute_drift(frame: pd.DataFrame, data: Data, columns: Sequence[str]) -> pd.DataFrame:
    """Return how much the distribution of each column differs between two periods.

    Rows of the training period are compared with those of the holdout's in a split by time, as LK205 compares them once
    they are clean; otherwise the first 60 % in time with the others.

    Returns
    -------
    pandas.DataFrame
        `column`, `drift` (population stability index over ten slices, or categories, and missing values), `by_luck`
        (the index that is exceeded once in a thousand times if nothing has changed), `earlier` and `later` (means of
        numeric columns), largest drift first. Times, numeric columns that follow time, such as a
        month, and strings with many distinct values are left out. Empty if no times are declared or all rows fall on
        one side.
    """
    nothing = pd.Series(False, index=frame.index)
    earlier, later = mark_compared(frame, data) if PREDICT_AT in frame else (nothing, nothing)
    if not later.any() or not earlier.any():
        return pd.DataFrame({name: [] for name in DRIFT_COLUMNS})
    times = frame.loc[earlier | later, PREDICT_AT]
    # One column at a time: copies of all of them would take several times the memory of the table.
    usable = [name for name in columns if has_distribution(frame.loc[earlier | later, name], times)]
    return compute_table((frame.loc[earlier, name], frame.loc[later, name]) for name in usable)


@np.errstate(over="ignore", invalid="ignore")
def compute_part_drift(before: pd.DataFrame, after: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the columns whose distribution differs strongly between two parts; see `find_drifted`."""
    both = {name: pd.concat([before[name], after[name]]) for name in columns}
    times = pd.concat([before[PREDICT_AT], after[PREDICT_AT]]) if PREDICT_AT in before else None
    usable = [name for name in columns if has_distribution(both[name], times)]
    return find_drifted(compute_table((before[name], after[name]) for name in usable))


def find_drifted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of `compute_drift` whose index exceeds `LARGE_DRIFT` by more than luck explains."""
    return table[table["drift"] > np.maximum(LARGE_DRIFT, table["by_luck"])].reset_index(drop=True)


def compute_lucky_drift(before: pd.Series, after: pd.Series) -> float:
    """Return the index that two samples of one distribution exceed once in a thousand times.

    Their index of k slices, divided by 1 / n + 1 / m, follows a chi-squared distribution with k - 1 degrees of freedom
    (Yurdakul, "Statistical properties of population stability index", 2018).
    """
    both = pd.concat([before, after])
    n_values = both.nunique()
    slices = (n_values if find_column_kind(both) == "category" else min(n_values, SLICES)) + 1
    return float(stats.chi2.ppf(1 - BY_LUCK, slices - 1) * (1 / max(len(before), 1) + 1 / max(len(after), 1)))


def compute_table(columns: Iterable[tuple[pd.Series, pd.Series]]) -> pd.DataFrame:
    """Return the population stability index and the means of each column before and after, largest drift first."""
    lines = []
    for halves in columns:
        is_category = find_column_kind(halves[0]) == "category"
        means = [np.nan if is_category else float(half.mean()) for half in halves]
        lines.append([halves[0].name, compute_stability(*halves), compute_lucky_drift(*halves), *means])
    table = pd.DataFrame(lines, columns=[*DRIFT_COLUMNS])
    return table.sort_values("drift", ascending=False, kind="stable", ignore_index=True)


def has_distribution(values: pd.Series, times: pd.Series | None) -> bool:
    """Return whether a column's distribution can be compared: neither a time, nor a count of it, nor an identifier."""
    kind = find_column_kind(values)
    if kind == "time" or (kind == "number" and times is not None and counts_time(values, times)):
        return False
    return not (kind == "category" and values.nunique() > DISTINCT_SHARE * values.notna().sum())


def counts_time(values: pd.Series, times: pd.Series) -> bool:
    """Return whether a numeric column rises or falls almost monotonically with time, in a part of very many rows."""
    step = len(values) // MOST_RANKED + 1
    values, times = values.iloc[::step], times.iloc[::step]
    if values.nunique() < 2 or times.nunique() < 2:
        return False
    return bool(abs(values.corr(times.astype("int64"), method="spearman")) >= COUNTS_TIME)


def compute_stability(before: pd.Series, after: pd.Series) -> float:
    """Return the population stability index: Σ (a − b) · ln(a / b) over the shares of each slice.

    >>> compute_stability(pd.Series([1.0, 2.0, 3.0]), pd.Series([3.0, 1.0, 2.0]))
    0.0
    """
    if find_column_kind(before) == "category" or before.nunique() <= SLICES:
        shares = pd.DataFrame({number: count_shares(part) for number, part in enumerate((before, after))})
    else:
        inner = np.unique(np.quantile(before.dropna().to_numpy(dtype="float64"), np.linspace(0, 1, SLICES + 1)[1:-1]))
        numbers = [part.to_numpy(dtype="float64", na_value=np.nan) for part in (before, after)]
        slices = [np.where(np.isnan(part), -1, np.searchsorted(inner, part)) for part in numbers]
        shares = pd.DataFrame({number: count_shares(pd.Series(part)) for number, part in enumerate(slices)})
    # A share of zero would make the index infinite.
    kept = shares.fillna(0).clip(lower=1e-4)
    return float(((kept[1] - kept[0]) * np.log(kept[1] / kept[0])).sum())


def count_shares(values: pd.Series) -> pd.Series:
    """Return the share of each value, by its string; missing values are one of them.

    >>> count_shares(pd.Series(["a", "b", None, "a"])).to_dict()
    {'a': 0.5, 'b': 0.25, 'missing': 0.25}
    """
    found = values.value_counts(normalize=True, dropna=False)
    names = [
        "missing" if is_missing else str(value)
        for value, is_missing in zip(found.index, found.index.isna(), strict=True)
    ]
    return found.groupby(names).sum()
