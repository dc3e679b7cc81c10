"""Fits parameters, metrics and tags into MLflow's limits, so that nothing is altered silently.

MLflow truncates long strings and stores an infinite number as a finite one.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_VALUE = 6000
REST = " … (complete in the run's artifacts)"


@dataclass(frozen=True)
class Fields:
    """Values that fit into MLflow, and the full length of those it would truncate, by artifact name."""

    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    files: dict[str, str]


def make_fields(params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]) -> Fields:
    """Return values that fit; long ones become artifacts with their digest in a tag, infinite numbers and NaN tags.

    >>> made = make_fields({"folds": 5}, {"auc": 0.8, "loss": float("inf")}, {})
    >>> made.params, made.metrics, made.tags
    ({'folds': '5'}, {'auc': 0.8}, {'labkit.not_finite.loss': 'inf'})
    """
    not_finite = {key: value for key, value in metrics.items() if not math.isfinite(value)}
    tags = {**tags, **{f"labkit.not_finite.{key}": str(value) for key, value in not_finite.items()}}
    strings = {f"params/{key}": as_string(value) for key, value in params.items()}
    strings |= {f"tags/{key}": as_string(value) for key, value in tags.items()}
    files = {f"{name}.txt": string for name, string in strings.items() if len(string) > LONGEST_VALUE}
    for name, string in files.items():
        key = name.partition("/")[2].removesuffix(".txt")
        tags[f"labkit.sha256.{key}"] = hashlib.sha256(string.encode()).hexdigest()
    return Fields(
        {key: fit_value(value) for key, value in params.items()},
        {key: value for key, value in metrics.items() if key not in not_finite},
        {key: fit_value(value) for key, value in tags.items()},
        files,
    )


def as_string(value: Any) -> str:
    """Return a value as a string."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fit_value(value: Any, longest: int = LONGEST_VALUE) -> str:
    """Return a value as a string of at most `longest` characters, with a note if it was truncated."""
    string = as_string(value)
    return string if len(string) <= longest else string[: longest - len(REST)] + REST
