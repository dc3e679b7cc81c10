"""What MLflow can keep of parameters, metrics and tags, and what stands beside it: nothing is altered silently.

MLflow cuts long strings and stores an infinite number as another one.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_VALUE = 6000
REST = " … (whole in the run's artifacts)"


@dataclass(frozen=True)
class Fields:
    """Values as MLflow keeps them, and the whole of those it would cut, by the name of an artifact."""

    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    files: dict[str, str]


def make_fields(params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]) -> Fields:
    """Sort values into what fits, what goes to an artifact with its digest as a tag, and numbers told as a tag.

    >>> made = make_fields({"folds": 5}, {"auc": 0.8, "loss": float("inf")}, {})
    >>> made.params, made.metrics, made.tags
    ({'folds': '5'}, {'auc': 0.8}, {'labkit.not_finite.loss': 'inf'})
    """
    strange = {key: value for key, value in metrics.items() if not math.isfinite(value)}
    tags = {**tags, **{f"labkit.not_finite.{key}": str(value) for key, value in strange.items()}}
    strings = {f"params/{key}": as_string(value) for key, value in params.items()}
    strings |= {f"tags/{key}": as_string(value) for key, value in tags.items()}
    files = {f"{name}.txt": string for name, string in strings.items() if len(string) > LONGEST_VALUE}
    for name, string in files.items():
        key = name.partition("/")[2].removesuffix(".txt")
        tags[f"labkit.sha256.{key}"] = hashlib.sha256(string.encode()).hexdigest()
    return Fields(
        {key: fit_value(value) for key, value in params.items()},
        {key: value for key, value in metrics.items() if key not in strange},
        {key: fit_value(value) for key, value in tags.items()},
        files,
    )


def as_string(value: Any) -> str:
    """Return a value as MLflow keeps it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fit_value(value: Any) -> str:
    """Return a value as a string that MLflow keeps whole, with a note if there was more of it."""
    string = as_string(value)
    return string if len(string) <= LONGEST_VALUE else string[: LONGEST_VALUE - len(REST)] + REST
