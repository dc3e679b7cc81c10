"""Stateless rules for single columns, on numpy arrays: training rows and live requests go through the same ones.

Applying the rules twice is the same as once, so a model may start with them whether its rows are raw or clean.
"""

from collections.abc import Mapping

import numpy as np

from labkit.errors import DataError
from labkit.params import Rule

Columns = dict[str, np.ndarray]


def apply_rules(columns: Mapping[str, np.ndarray], rules: Mapping[str, Rule]) -> Columns:
    """Return the columns with each rule applied to its own.

    Parameters
    ----------
    columns
        Arrays of shape (n_rows,); numbers miss as NaN, texts as None.
    rules
        By column; columns that are not there are passed over.

    Raises
    ------
    DataError
        A rule is for a column of times.
    """
    times = [name for name in rules if name in columns and columns[name].dtype.kind in "mM"]
    if times:
        raise DataError(f"wrangling.rules.{times[0]}: holds times: rules are for numbers and texts")
    return {name: apply_rule(values, rules[name]) if name in rules else values for name, values in columns.items()}


def apply_rule(values: np.ndarray, rule: Rule) -> np.ndarray:
    """Return one column, shape (n_rows,), with its rule applied."""
    if values.dtype.kind in "iufb":
        return apply_number_rule(values, rule)
    cleaned = np.array([value.strip() if rule.trim and isinstance(value, str) else value for value in values], object)
    markers = {str(marker) for marker in rule.missing}
    is_marker = np.array([isinstance(value, str) and value in markers for value in cleaned], bool)
    cleaned[is_marker] = None
    return cleaned


def apply_number_rule(values: np.ndarray, rule: Rule) -> np.ndarray:
    """Return a column of numbers with its rule applied; unchanged in type where no rule bites."""
    numbers = values.astype("float64")
    markers = [float(marker) for marker in rule.missing if not isinstance(marker, str)]
    is_missing = np.isin(numbers, markers) if markers else np.zeros(len(numbers), bool)
    low = -np.inf if rule.minimum is None else rule.minimum
    high = np.inf if rule.maximum is None else rule.maximum
    is_outside = (numbers < low) | (numbers > high)
    if rule.outside == "missing":
        is_missing |= is_outside
    else:
        numbers = np.clip(numbers, low, high)
        # A value clipped onto a marker would miss the next time.
        is_missing |= np.isin(numbers, markers)
    if not (is_missing.any() or is_outside.any()):
        return values
    return np.where(is_missing, np.nan, numbers)
