"""What row features learn from the training rows besides categories: bounds of outliers, fills, words, empty columns.

Plain functions on numpy arrays; what was learnt is plain data that travels in the model as JSON. Not what needs no
other row: that is `labkit.features.row_rules`.
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
"""What is to be learnt, as plain data: `fill`, `outliers` and `text` by column, `most_missing`."""


def make_spec(params: "Params") -> dict[str, Any]:
    """Return what is to be learnt from the training rows, as the params declare it."""
    wrangling, features = params.wrangling, params.features
    return {
        "fill": {name: fill.model_dump(mode="json") for name, fill in wrangling.fill.items()},
        "outliers": {name: rule.model_dump(mode="json") for name, rule in wrangling.outliers.items()},
        "text": {name: text.model_dump(mode="json") for name, text in features.text.items()},
        "most_missing": wrangling.most_missing.columns,
    }


def learn(columns: Columns, spec: Spec) -> dict[str, Any]:
    """Return what the clean raw columns of the training rows teach, as plain data.

    Returns
    -------
    dict
        `bounds`, `fills` and `words` by column; `empty`, the columns that are left out.

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
    # Values too far out do not count in what is filled in.
    bounded = apply_bounds(columns, bounds, spec)
    limit = spec.get("most_missing")
    return {
        "bounds": bounds,
        "fills": {
            name: learn_fill(bounded[name], fill, name)
            for name, fill in (spec.get("fill") or {}).items()
            if fill["strategy"] != "drop"
        },
        "words": {name: learn_words(columns[name], text, name) for name, text in (spec.get("text") or {}).items()},
        "empty": [name for name, values in columns.items() if limit and is_missing(values).mean() > limit],
    }


def learn_bounds(values: np.ndarray, rule: Mapping[str, Any], name: str) -> list[float]:
    """Return the smallest and the largest number that is not too far out."""
    if values.dtype.kind not in "iufb":
        raise DataError(f"wrangling.outliers.{name}: holds no numbers: read them with wrangling.rules, type number")
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
    """Return what stands for a missing value."""
    is_number, strategy = values.dtype.kind in "iufb", fill["strategy"]
    if values.dtype.kind in "mM":
        raise DataError(f"wrangling.fill.{name}: holds times: fill numbers and texts, or leave the rows out: drop")
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
    """Return clean raw columns with outliers and gaps as declared, and the features that flag them."""
    flags: Columns = {}
    for name, (low, high) in learnt["bounds"].items():
        if spec["outliers"][name]["action"] == "flag":
            flags[f"{name}_{OUTLIER}"] = ((columns[name] < low) | (columns[name] > high)).astype("float64")
    made = apply_bounds(columns, learnt["bounds"], spec)
    for name, fill in (spec.get("fill") or {}).items():
        gaps = is_missing(made[name])
        if fill["indicator"]:
            flags[f"{name}_{MISSING}"] = gaps.astype("float64")
        if name in learnt["fills"] and gaps.any():
            made[name] = np.where(gaps, np.array(learnt["fills"][name], made[name].dtype), made[name])
    return {**made, **flags}


def apply_bounds(columns: Columns, bounds: Mapping[str, list[float]], spec: Spec) -> Columns:
    """Return the columns with numbers too far out clipped or missing."""
    made = dict(columns)
    for name, (low, high) in bounds.items():
        action, values = spec["outliers"][name]["action"], columns[name]
        if action == "clip":
            made[name] = np.clip(values, low, high)
        elif action == "missing":
            made[name] = np.where((values < low) | (values > high), np.nan, values)
    return made


def interact(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the product of two columns of numbers, else both values as one category."""
    if first.dtype.kind in "iufb" and second.dtype.kind in "iufb":
        return first.astype("float64") * second.astype("float64")
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return np.array([f"{write_part(one)} & {write_part(other)}" for one, other in pairs], object)


def write_part(value: Any) -> str:
    """Return a value as part of a category's name; a missing one is empty."""
    if value is None or value != value:
        return ""
    return str(number_to_string(value))
