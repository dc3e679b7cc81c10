"""Stateless rules for single columns, on numpy arrays, applied alike to training rows and live requests.

The rules are idempotent, so a model may start with them whether its rows are raw or clean. Numbers, dates and booleans
are parsed from strings by `labkit.features.parse_text`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.features import parse_text
from labkit.features.arrays import number_to_string
from labkit.features.expressions import is_missing
from labkit.vocabulary import tidy

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class RowRule:
    """A rule for one column in applicable form; it is declared and validated by `labkit.params.wrangling.Rule`."""

    type: str | None = None
    decimal: str = "."
    units: Mapping[str, float] = field(default_factory=dict)
    format: str | None = None
    trim: bool = False
    case: str | None = None
    map: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[Any] = ()
    minimum: float | None = None
    maximum: float | None = None
    outside: str = "missing"


NUMBERS = ("number", "boolean")


def apply_rules(columns: Mapping[str, np.ndarray], rules: Mapping[str, RowRule]) -> Columns:
    """Apply each rule to its column.

    Parameters
    ----------
    columns
        Arrays of shape (n_rows,); missing numbers are NaN, missing strings None.
    rules
        Rules by column; those for absent columns are ignored.

    Raises
    ------
    DataError
        A rule of another type than date is for a column of times.
    """
    times = [name for name, rule in rules.items() if name in columns and is_for_others(columns[name], rule)]
    if times:
        raise DataError(f"wrangling.rules.{times[0]}: holds times: rules apply to numbers and strings")
    return {name: apply_rule(values, rules[name]) if name in rules else values for name, values in columns.items()}


def is_for_others(values: np.ndarray, rule: RowRule) -> bool:
    """Return whether a column holds times and its rule is not for times."""
    return values.dtype.kind in "mM" and rule.type != "date"


def apply_rule(values: np.ndarray, rule: RowRule) -> np.ndarray:
    """Apply a rule to one column.

    Parameters
    ----------
    values
        Values of the column, shape (n_rows,).
    rule
        The rule.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,); times are returned unchanged.
    """
    if values.dtype.kind in "mM":
        return values
    if values.dtype.kind in "iufb" and rule.type not in ("category", "date"):
        return apply_number_rule(values, rule)
    cleaned = values.astype(object)
    cleaned[is_missing(cleaned)] = None
    if rule.type == "category":
        cleaned = np.array([number_to_string(value) for value in cleaned.tolist()], object)
    cleaned = np.array([clean_text(value, rule) for value in cleaned], object)
    if rule.type in NUMBERS:
        numbers = [read_value(value, rule) for value in cleaned.tolist()]
        return apply_number_rule(np.array(numbers, "float64"), rule)
    if rule.type == "date":
        return np.array([read_rule_time(value, rule.format) for value in cleaned.tolist()], "datetime64[us]")
    return cleaned


def clean_text(value: Any, rule: RowRule) -> Any:
    """Return a string trimmed, in its case and mapped; None for a missing marker; other values unchanged."""
    if not isinstance(value, str):
        return value
    markers = {str(marker) for marker in rule.missing}
    trimmed = value.strip() if rule.trim else value
    if trimmed in markers:
        return None
    plain = tidy(value, trim=rule.trim, case=rule.case)
    mapped = rule.map.get(plain, plain)
    return None if mapped in markers else mapped


def read_value(value: Any, rule: RowRule) -> float:
    """Return a value as a number, or yes and no as 1 and 0; NaN if it cannot be parsed."""
    if value is None:
        return np.nan
    if not isinstance(value, str):
        return float(value)
    found = (
        parse_text.read_yes_no(value)
        if rule.type == "boolean"
        else parse_text.read_number(value, rule.decimal, rule.units)
    )
    return np.nan if found is None else found


def read_rule_time(value: Any, form: str | None) -> datetime | None:
    """Parse a time in the declared format, or else in ISO 8601, the form of times in clean rows."""
    if not isinstance(value, str):
        return value if isinstance(value, datetime) else None
    found = parse_text.read_date(value, form)
    return parse_text.read_date(value, None) if found is None else found


def apply_number_rule(values: np.ndarray, rule: RowRule) -> np.ndarray:
    """Apply a rule to a numeric column; the data type is unchanged if the rule changes nothing."""
    numbers = values.astype("float64")
    markers = [float(marker) for marker in rule.missing if not isinstance(marker, str)]
    is_gone = np.isin(numbers, markers) if markers else np.zeros(len(numbers), bool)
    if rule.type == "boolean":
        is_gone |= ~np.isin(numbers, (0.0, 1.0)) & ~np.isnan(numbers)
    low = -np.inf if rule.minimum is None else rule.minimum
    high = np.inf if rule.maximum is None else rule.maximum
    is_outside = (numbers < low) | (numbers > high)
    if rule.outside == "missing":
        is_gone |= is_outside
    else:
        numbers = np.clip(numbers, low, high)
        # Otherwise a value clipped onto a missing marker would become missing the next time.
        is_gone |= np.isin(numbers, markers)
    if not (is_gone.any() or is_outside.any() or rule.type in NUMBERS):
        return values
    return np.where(is_gone, np.nan, numbers)
