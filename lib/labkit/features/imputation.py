"""What row features learn from the training rows besides categories: outlier bounds, fills, words, empty columns.

Plain functions on numpy arrays; the result is plain data that is stored in the model as JSON. Rules that need no other
rows are in `labkit.features.row_rules`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import DataError
from labkit.features.arrays import number_to_string
from labkit.features.expressions import is_missing
from labkit.features.row_rules import Columns
from labkit.features.tfidf import learn_words

if TYPE_CHECKING:
    from labkit.params.experiment import Params

OUTLIER, MISSING = "is_outlier", "is_missing"


Spec = Mapping[str, Any]
"""What to learn, as plain data: `fill`, `outliers` and `text` by column, and `most_missing`."""


def make_spec(params: "Params") -> dict[str, Any]:
    """Return what to learn from the training rows, as declared in the params."""
    wrangling, features = params.wrangling, params.features
    return {
        "fill": {name: fill.model_dump(mode="json") for name, fill in wrangling.fill.items()},
        "outliers": {name: rule.model_dump(mode="json") for name, rule in wrangling.outliers.items()},
        "text": {name: section.model_dump(mode="json") for name, section in features.text.items()},
        "most_missing": wrangling.most_missing.columns,
    }


def learn(columns: Columns, spec: Spec) -> dict[str, Any]:
    """Learn from the cleaned raw columns of the training rows.

    Parameters
    ----------
    columns
        Arrays of shape (n_rows,), by column.
    spec
        What to learn.

    Returns
    -------
    dict
        Plain data: `bounds`, `fills` and `words` by column, and `empty`, the list of columns with too many missing
        values.

    Raises
    ------
    DataError
        A column is not of the kind that its entry needs, or has no value to learn from.
    """
    bounds = {
        name: learn_bounds(columns[name], rule, name)
        for name, rule in (spec.get("outliers") or {}).items()
        if rule["action"] != "drop"
    }
    # Outliers are clipped or removed, as declared, before fills are learned.
    bounded = apply_bounds(columns, bounds, spec)
    limit = spec.get("most_missing")
    return {
        "bounds": bounds,
        "fills": {
            name: learn_fill(bounded[name], fill, name)
            for name, fill in (spec.get("fill") or {}).items()
            if fill["strategy"] != "drop"
        },
        "words": {name: learn_words(columns[name], how, name) for name, how in (spec.get("text") or {}).items()},
        "empty": [name for name, values in columns.items() if limit and is_missing(values).mean() > limit],
    }


def learn_bounds(values: np.ndarray, rule: Mapping[str, Any], name: str) -> list[float]:
    """Return the bounds outside which a number is an outlier.

    Parameters
    ----------
    values
        Values of the column, shape (n_rows,).
    rule
        Fields of `labkit.params.wrangling.Outliers`.
    name
        Name of the column, for error messages.

    Returns
    -------
    list of float
        Lower and upper bound: quantiles, or the quartiles extended by `factor` interquartile ranges.

    Raises
    ------
    DataError
        The column does not hold numbers, or all of them are missing.
    """
    if values.dtype.kind not in "iufb":
        raise DataError(
            f"wrangling.outliers.{name}: does not hold numbers: convert it with wrangling.rules, type number"
        )
    numbers = values.astype("float64")
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        raise DataError(f"wrangling.outliers.{name}: no training row has a number: leave it out with wrangling.drop")
    if rule["method"] == "quantiles":
        low, high = np.quantile(numbers, [rule["low"], rule["high"]])
    else:
        lower, upper = np.quantile(numbers, [0.25, 0.75])
        reach = rule["factor"] * (upper - lower)
        low, high = lower - reach, upper + reach
    return [float(low), float(high)]


def learn_fill(values: np.ndarray, fill: Mapping[str, Any], name: str) -> Any:
    """Return the value that replaces missing values."""
    is_number, strategy = values.dtype.kind in "iufb", fill["strategy"]
    if values.dtype.kind in "mM":
        raise DataError(f"wrangling.fill.{name}: times cannot be filled: use drop to leave the rows out")
    if strategy == "constant":
        if is_number and isinstance(fill["value"], str):
            raise DataError(f"wrangling.fill.{name}: value {fill['value']!r} is not a number")
        return float(fill["value"]) if is_number else str(fill["value"])
    if strategy in ("median", "mean") and not is_number:
        raise DataError(f"wrangling.fill.{name}: {strategy} is for numbers: use most_frequent or constant")
    known = values[~is_missing(values)].tolist()
    if not known:
        raise DataError(f"wrangling.fill.{name}: no training row has a value: leave it out with wrangling.drop")
    if strategy == "most_frequent":
        return min(Counter(known).items(), key=lambda item: (-item[1], item[0]))[0]
    return float(np.median(known) if strategy == "median" else np.mean(known))


def apply_learnt(columns: Columns, learnt: Mapping[str, Any], spec: Spec) -> Columns:
    """Handle outliers and missing values as declared, and add indicator features.

    Parameters
    ----------
    columns
        Cleaned raw columns, arrays of shape (n_rows,).
    learnt
        Result of `learn`.
    spec
        What was learned, as declared.

    Returns
    -------
    dict
        The columns and their indicators, arrays of shape (n_rows,).
    """
    flags: Columns = {}
    for name, (low, high) in learnt["bounds"].items():
        if spec["outliers"][name]["action"] == "flag":
            flags[f"{name}_{OUTLIER}"] = ((columns[name] < low) | (columns[name] > high)).astype("float64")
    made = apply_bounds(columns, learnt["bounds"], spec)
    for name, fill in (spec.get("fill") or {}).items():
        missing = is_missing(made[name])
        if fill["indicator"]:
            flags[f"{name}_{MISSING}"] = missing.astype("float64")
        if name in learnt["fills"] and missing.any():
            made[name] = np.where(missing, np.array(learnt["fills"][name], made[name].dtype), made[name])
    return {**made, **flags}


def apply_bounds(columns: Columns, bounds: Mapping[str, list[float]], spec: Spec) -> Columns:
    """Return the columns with outliers clipped or missing, as declared."""
    made = dict(columns)
    for name, (low, high) in bounds.items():
        action, values = spec["outliers"][name]["action"], columns[name]
        if action == "clip":
            made[name] = np.clip(values, low, high)
        elif action == "missing":
            made[name] = np.where((values < low) | (values > high), np.nan, values)
    return made


def interact(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the interaction of two columns: the product of numbers, otherwise both values as one category.

    Parameters
    ----------
    first, second
        Values of the columns, shape (n_rows,).

    Returns
    -------
    numpy.ndarray
        float64, or strings; shape (n_rows,).
    """
    if first.dtype.kind in "iufb" and second.dtype.kind in "iufb":
        return first.astype("float64") * second.astype("float64")
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return np.array([f"{write_part(one)} & {write_part(other)}" for one, other in pairs], object)


def write_part(value: Any) -> str:
    """Return a value as part of a category's name; empty if missing."""
    if value is None or value != value:
        return ""
    return str(number_to_string(value))
