"""The true values of the evaluated rows in brief: how large or how frequent they are, by which a metric is judged."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from labkit.model.evaluation.predictions import Predictions
from labkit.names import escape
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_column, format_share

LEVELS = {"smallest": 0.0, "lower_quarter": 0.25, "median": 0.5, "upper_quarter": 0.75, "largest": 1.0}


def summarize_true_values(predictions: Predictions) -> dict[str, Any]:
    """Return the mean and the quartiles of numbers, or the share of the class of interest of two classes.

    Of more classes nothing is returned.

    Examples
    --------
    >>> summarize_true_values(Predictions(np.array([1.0, 2.0, 6.0]), np.zeros(3)))["mean"]
    3.0
    >>> found = Predictions.from_proba(np.array([0, 1, 0, 0]), np.full((4, 2), 0.5), ("no", "yes"))
    >>> summarize_true_values(found)
    {'share': 0.25, 'positive': 'yes'}
    """
    y_true, classes = predictions.y_true, predictions.classes
    if len(classes) == 2:
        share = float((y_true == predictions.positive).mean())
        return {"share": share, "positive": str(classes[predictions.positive])}
    if len(classes):
        return {}
    quartiles = np.quantile(y_true, [*LEVELS.values()]).tolist()
    return {"mean": float(y_true.mean()), **dict(zip(LEVELS, quartiles, strict=True))}


def describe_true_values(found: Mapping[str, Any], subject: Subject = GENERIC, *, target: str = "") -> str:
    """Return what `summarize_true_values` found as a phrase, empty if it found nothing.

    Parameters
    ----------
    target
        The target's column, whose unit is shown.

    Examples
    --------
    >>> levels = dict(zip(LEVELS, [37.0, 87.2, 128.0, 202.0, 310.0], strict=True))
    >>> describe_true_values({"mean": 145.9, **levels})
    'true values 146 on average, half of them between 87 and 202, all between 37 and 310'
    >>> late = Subject("", "flight", "flights", {"1": "late"})
    >>> describe_true_values({"share": 0.151, "positive": "1"}, late)
    '15 % of them late'
    >>> describe_true_values({"share": 0.25, "positive": "yes"})
    '25 % of them of class `yes`'
    """
    if "share" in found:
        label = subject.find_label(found["positive"])
        named = label or f"of class {escape(found['positive'])}"
        return f"{format_share(found['share'])} of them {named}"
    if not found:
        return ""
    after = f" {subject.columns[target].unit}".rstrip() if target in subject.columns else ""
    mean, smallest, lower, upper, largest = format_column(
        found[name] for name in ("mean", "smallest", "lower_quarter", "upper_quarter", "largest")
    )
    spread = f"half of them between {lower} and {upper}, all between {smallest} and {largest}"
    return f"true values {mean}{after} on average, {spread}"
