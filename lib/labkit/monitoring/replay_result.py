"""What a replay shows: metric and cost of each policy by period, and the gain of each over never training again."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from labkit.model.evaluation.blocks import Blocks, find_blocks
from labkit.model.evaluation.bootstrap import Interval, compare_paired, draw_weights, make_interval
from labkit.model.evaluation.metrics import compute_losses, compute_metric, make_mean_score
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.threshold import compute_costs, compute_fair_threshold
from labkit.monitoring.replay import JUDGED_DAYS, PolicyRun, Replay, join_predictions

MOST_SAMPLES = 200
"""Bootstrap samples of a comparison, at most: a replay compares over many rows."""


def summarise_replay(replay: Replay, runs: Sequence[PolicyRun]) -> dict[str, Any]:
    """Return the result of a replay as plain data; gains are over the first policy, on the same rows."""
    params, metric = replay.params, replay.params.training.metric
    rows = replay.rows[replay.periods.isin(replay.replayed).to_numpy()]
    wholes = {one.name: join_predictions(one.predicted) for one in runs}
    base = wholes[runs[0].name]
    blocks = find_blocks(rows, params.data).fit_length(compute_losses(base))
    return {
        "experiment": params.experiment,
        "metric": metric,
        "unit": replay.unit,
        "judged_days": JUDGED_DAYS[replay.unit],
        "periods": [str(one) for one in replay.replayed],
        "rows": len(rows),
        "confidence": params.evaluation.confidence,
        "resampled": str(blocks),
        "growth": params.monitoring.growth,
        "cost_unit": params.evaluation.costs.unit if has_costs(replay) and params.evaluation.costs else None,
        "versions": [{"at": at.isoformat(), "rows": one.n_rows} for at, one in sorted(replay.versions.items())],
        "policies": [summarise_policy(replay, one, wholes[one.name], base, blocks) for one in runs],
    }


def tabulate_predictions(replay: Replay, runs: Sequence[PolicyRun]) -> pd.DataFrame:
    """Return what each policy predicted for each replayed row, with its period, under the number of the row.

    For two classes the probability of the class of interest, for more those of all, under `<policy>: <class>`.
    """
    is_replayed = replay.periods.isin(replay.replayed).to_numpy()
    table: dict[str, Any] = {"period": replay.periods[is_replayed].astype(str).to_numpy()}
    for one in runs:
        whole = join_predictions(one.predicted)
        if len(whole.classes) > 2:
            named = zip(whole.classes, whole.y_proba.T, strict=True)
            table |= {f"{one.name}: {label}": probabilities for label, probabilities in named}
        else:
            table[one.name] = whole.y_proba[:, whole.positive] if whole.classes else whole.y_pred
    return pd.DataFrame(table, index=replay.rows.index[is_replayed])


def has_costs(replay: Replay) -> bool:
    """Return whether costs are declared and there are two classes."""
    return replay.params.evaluation.costs is not None and len(replay.classes) == 2


def summarise_policy(
    replay: Replay, run: PolicyRun, whole: Predictions, base: Predictions, blocks: Blocks
) -> dict[str, Any]:
    """Return the course of one policy as plain data; None where the metric is undefined, e.g. with a single class."""
    params, metric = replay.params, replay.params.training.metric
    n_samples = min(params.evaluation.bootstrap_samples, MOST_SAMPLES)
    drawn: dict[str, Any] = {"confidence": params.evaluation.confidence, "blocks": blocks}
    values = [compute_metric(metric, one) for one in run.predicted]
    gain = compare_paired(metric, whole, base, n_samples=n_samples, seed=params.seed, **drawn)
    described: dict[str, Any] = {
        "policy": run.name,
        "trainings": run.n_trainings,
        "promoted": sum(one.outcome == "promoted" for one in run.decisions),
        "refused": sum(one.outcome == "refused" for one in run.decisions),
        "values": [None if np.isnan(one) else one for one in values],
        "mean": None if np.isnan(values).all() else float(np.nanmean(values)),
        "gain": gain.to_dict(),
        "decisions": [{**asdict(one), "drift": [*one.drift]} for one in run.decisions],
    }
    if has_costs(replay):
        costs = [compute_row_costs(replay, one) for one in run.predicted]
        saved = compute_row_costs(replay, base) - compute_row_costs(replay, whole)
        score = make_mean_score(saved)
        samples = [score(one) for one in draw_weights(whole, n_samples, seed=params.seed, blocks=blocks)]
        interval: Interval = make_interval(float(saved.mean()), samples, params.evaluation.confidence, blocks)
        by_period = [float(one.mean()) for one in costs]
        described |= {"costs": by_period, "mean_cost": float(np.mean(by_period)), "saved": interval.to_dict()}
    if len(replay.classes) == 2:
        described["predicted_share"] = [float(one.y_proba[:, one.positive].mean()) for one in run.predicted]
        described["true_share"] = [float((one.y_true == one.positive).mean()) for one in run.predicted]
    return described


def compute_row_costs(replay: Replay, predictions: Predictions) -> np.ndarray:
    """Return the cost of each row at the threshold that follows from the costs, shape (n_rows,)."""
    costs = replay.params.evaluation.costs
    assert costs is not None
    return compute_costs(predictions, compute_fair_threshold(costs), costs)
