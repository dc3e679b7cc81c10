"""The kind of a column by its type: number, boolean, time or category."""

import pandas as pd


def find_kind(values: pd.Series) -> str:
    """Return `number`, `boolean`, `time` or `category`.

    >>> find_kind(pd.Series([1.5, 2.0]))
    'number'
    """
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    if pd.api.types.is_numeric_dtype(values):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "time"
    return "category"
