"""Metrics in the layout of `evaluation.json`, which later stages read, and of `metrics.json`, the headline for DVC."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from labkit.model.evaluation.bootstrap import Interval
from labkit.params.metric_meanings import name_headline


def make_record(
    found: Mapping[str, Mapping[str, Interval]],
    gains: Mapping[str, Mapping[str, Interval]],
    by_period: Any,
    metric: str,
) -> dict[str, Any]:
    """Return the metrics of an evaluation in the layout of `evaluation.json`, which does not change from run to run.

    Parameters
    ----------
    found
        Metrics by model: `model`, and the models that it is compared with.
    gains
        Paired gain of the model over each of the other models, by metric.
    by_period
        As returned by `labkit.model.evaluation.by_period.compute_by_period`.
    metric
        The metric by which the model was chosen.

    Returns
    -------
    dict
        `holdout`, one entry for each other model with its metrics, `paired` with the gain in the metric, `gains` with
        those in all, `by_period`.
    """
    others = {name_key(name): one for name, one in found.items() if name != "model"}
    lines = by_period.rename(columns={"model": "value"}).rename(columns=name_key).to_dict("records")
    return {
        "holdout": {name: interval.to_dict() for name, interval in found["model"].items()},
        **{key: {name: interval.value for name, interval in one.items()} for key, one in others.items()},
        "paired": {name_key(name): by_metric[metric].to_dict() for name, by_metric in gains.items()},
        "gains": {
            name_key(name): {one: gain.to_dict() for one, gain in by_metric.items()}
            for name, by_metric in gains.items()
        },
        "by_period": {line.pop("period"): line for line in lines},
    }


def make_headline(evaluation: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Return the few numbers that an experiment is judged by, flat, each named by the rows it was measured on.

    Parameters
    ----------
    evaluation
        Content of `evaluation.json`.
    choice
        Content of `model/choice.json`; its `scores` hold `cv_…` and `validation_…`.

    Returns
    -------
    dict
        `holdout_<metric>` and `gain_over_dummy`, each also with `_low` and `_high`, `validation_<metric>`,
        `cv_<metric>`, `holdout_rows`, and `holdout_cost_per_row` if costs are declared.
    """
    metric = evaluation["metric"]
    scores = {f"{place}_{metric}": choice["scores"][f"{place}_{metric}"] for place in ("validation", "cv")}
    cost = evaluation["threshold"].get("cost")
    return {
        **name_ends(f"holdout_{metric}", evaluation["holdout"][metric]),
        **name_ends("gain_over_dummy", evaluation["paired"]["dummy"]),
        **scores,
        "holdout_rows": evaluation["rows"],
        **({"holdout_cost_per_row": cost["value"]} if cost else {}),
    }


def make_dvc_metrics(evaluation: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Return the headline under short names, the same in each experiment, so that a table of them is narrow.

    Parameters
    ----------
    evaluation, choice
        As in `make_headline`.

    Returns
    -------
    dict
        `metric`, the name of the metric, and the numbers of `labkit.params.metric_meanings.name_headline`.
    """
    metric, headline = evaluation["metric"], make_headline(evaluation, choice)
    return {"metric": metric} | {key: headline[name] for key, name in name_headline(metric).items() if name in headline}


def name_ends(name: str, interval: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return a value under a name, and the limits of its interval under that name with `_low` and `_high`.

    >>> name_ends("holdout_mae", {"value": 44.0, "low": 38.0, "high": 50.0})
    {'holdout_mae': 44.0, 'holdout_mae_low': 38.0, 'holdout_mae_high': 50.0}
    """
    return {name: interval["value"], f"{name}_low": interval["low"], f"{name}_high": interval["high"]}


def make_logged(evaluation: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics for MLflow: the headline, every metric on the holdout, and the gain over each model.

    Values that are not defined on these rows are left out.
    """
    every = {f"holdout_{name}": one["value"] for name, one in evaluation["holdout"].items()}
    logged: dict[str, float | None] = {**round_all(make_headline(evaluation, choice)), **every}
    for name, gain in evaluation["paired"].items():
        logged |= name_ends(f"gain_over_{name}", gain)
    return {name: value for name, value in logged.items() if value is not None}


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
