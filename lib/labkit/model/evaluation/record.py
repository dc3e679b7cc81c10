"""Metrics in the layout of `metrics.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from labkit.model.evaluation.bootstrap import Interval


def make_record(
    found: Mapping[str, Mapping[str, Interval]], gains: Mapping[str, Interval], by_period: Any
) -> dict[str, Any]:
    """Return the metrics of an evaluation in the layout of `metrics.json`, which does not change from run to run.

    Parameters
    ----------
    found
        Metrics by model: `model`, and the models that it is compared with.
    gains
        Paired gain of the model over each of the other models.
    by_period
        As returned by `labkit.model.evaluation.by_period.compute_by_period`.

    Returns
    -------
    dict
        `holdout`, one entry for each other model with its metrics, `paired`, `by_period`.
    """
    others = {name_key(name): one for name, one in found.items() if name != "model"}
    lines = by_period.rename(columns={"model": "value"}).rename(columns=name_key).to_dict("records")
    return {
        "holdout": {name: interval.to_dict() for name, interval in found["model"].items()},
        **{key: {name: interval.value for name, interval in one.items()} for key, one in others.items()},
        "paired": {name_key(name): gain.to_dict() for name, gain in gains.items()},
        "by_period": {line.pop("period"): line for line in lines},
    }


def name_key(title: str) -> str:
    """Convert a title to a key.

    >>> name_key("plain LightGBM")
    'plain_lightgbm'
    """
    return title.lower().replace(" ", "_")


def round_all(content: Any) -> Any:
    """Return plain data with every float rounded to nine significant digits; machines may differ in the digits beyond.

    NaN and infinity become None, because JSON cannot represent them.
    """
    if isinstance(content, Mapping):
        return {key: round_all(value) for key, value in content.items()}
    if isinstance(content, list):
        return [round_all(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.9g}") if np.isfinite(content) else None
    return content
