"""Compute columns from others: the target by its rule, times and declared expressions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from labkit.errors import DataError, ParamsError
from labkit.features import expressions
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_rules import RowRule, apply_rule
from labkit.features.table_columns import find_column_kind, is_numeric, to_array
from labkit.params.tables import Data, Target


def read_target(frame: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Return the table with the target parsed by its rule, if both the rule and the column exist."""
    if target.rule is None or target.column not in frame:
        return frame
    values = apply_rule(to_array(frame[target.column]), RowRule(**target.rule.model_dump()))
    column = pd.Series(values, index=frame.index)
    return frame.assign(**{target.column: column.astype("str") if column.dtype == object else column})


def list_computed(data: Data) -> dict[str, str]:
    """Return the columns that are computed before any join, as expressions by name, in order."""
    if data.time is None:
        return dict(data.derived)
    times = {PREDICT_AT: data.time.predict_at, OUTCOME_KNOWN_AT: data.time.outcome_known_at}
    return {**data.derived, **times}


def add_column(frame: pd.DataFrame, name: str, expression: str, *, needs_all: bool = False) -> pd.DataFrame:
    """Return the table with a column computed from others; times are UTC.

    Parameters
    ----------
    needs_all
        Whether the result is missing wherever any column used by the expression is missing.

    Raises
    ------
    DataError
        A column of that name already exists.
    ParamsError
        The expression cannot be computed, or yields a duration.
    """
    if name in frame:
        raise DataError(f"{name}: a column of that name exists: choose another name for the computed column")
    names = expressions.find_names(expression)
    values = pd.Series(compute_column(expression, {column: to_array(frame[column]) for column in names}))
    values = values.set_axis(frame.index)
    if is_time(values):
        values = values.dt.tz_localize("UTC")
    is_known = frame[names].notna().all(axis=1) if needs_all else None
    if is_known is not None and not is_known.all():
        values = (values.astype("float64") if pd.api.types.is_bool_dtype(values) else values).where(is_known)
    return frame.assign(**{name: values})


def compute_column(expression: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the values of an expression, in a type that a table can hold.

    Raises
    ------
    ParamsError
        The expression cannot be computed, or yields a duration.
    """
    values = expressions.compute(expression, columns)
    if values.dtype.kind == "m":
        raise ParamsError(f"expression {expression!r} gives a duration: divide it by hours(1) to get a number")
    return values.astype("datetime64[us]") if values.dtype.kind == "M" else values


def is_time(values: pd.Series) -> bool:
    """Return whether a column holds times."""
    return find_column_kind(values) == "time"


def check_times(frame: pd.DataFrame) -> None:
    """Raise a DataError if an expression of `data.time` does not yield times."""
    for name in (PREDICT_AT, OUTCOME_KNOWN_AT):
        if not is_time(frame[name]):
            raise DataError(f"data.time.{name} gives {frame[name].dtype}, not times: name their columns in `times`")


def settle_target(frame: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Drop rows without a computed target, and store integer class codes as integers: 1 and 0, not 1.0 and 0.0.

    Does nothing unless the target is computed by an expression; otherwise, filters have to name the rows to drop.
    """
    if target.expression is None:
        return frame
    kept = frame[frame[target.column].notna()]
    values = kept[target.column]
    is_code = target.task == "classification" and is_numeric(values)
    return kept.assign(**{target.column: values.astype("int64")}) if is_code and (values % 1 == 0).all() else kept
