"""How good a released model is on rows whose true values are known by now, compared with the holdout.

Intervals treat rows as in the evaluation: whole days or groups are drawn, or whole requests of a log without times.
Until true values come, and beside them, the metric is estimated from the model's own probabilities; see
`labkit.model.evaluation.expected`. How well such estimates have followed the true values is kept with each check.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.blocks import Blocks, find_blocks, make_rows
from labkit.model.evaluation.bootstrap import Interval, compute_intervals, compute_means, draw_weights, make_interval
from labkit.model.evaluation.expected import estimate_cost, estimate_losses, estimate_metric, make_estimate
from labkit.model.evaluation.metrics import compute_losses, is_greater_better, make_mean_score
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.threshold import compute_costs
from labkit.model.release.bundle import Release
from labkit.monitoring.reference_losses import ReferenceLosses
from labkit.monitoring.reference_performance import ReferencePerformance, measure_group_losses
from labkit.monitoring.scored_rows import ScoredRows
from labkit.params.experiment import Params
from labkit.params.tables import find_positive

FEWEST_LABELS = 50
"""Rows with a true value from which metrics are computed."""
RECENT = np.timedelta64(28, "D")
"""Of a log, rows are compared that are at most so much earlier than the latest row with a true value."""
MOST_SAMPLES = 500
MOST_ESTIMATED = 200_000
"""Most rows of which the metric is estimated, times classes, since each counts once for every class: the latest."""
ESTIMATE_SAMPLES = 200
"""Draws for the interval of the estimate."""
REQUEST = "request"


@dataclass(frozen=True)
class WorseGroup:
    """A group of rows with larger losses than on the holdout.

    Attributes
    ----------
    loss, before
        Mean loss now and on the holdout.
    low, high
        Interval of the difference, adjusted for the selection.
    """

    group: str
    rows: int
    loss: float
    before: float
    low: float
    high: float


@dataclass(frozen=True)
class Performance:
    """How good a released model is on the rows to monitor.

    Attributes
    ----------
    n_rows, n_labelled, n_compared
        Rows predicted by this release, those with a true value, and those of them that were compared.
    is_cut
        Whether the rows are only the latest of a log.
    compared_digest
        Digest of the rows compared: equal for the same rows; None without any.
    first, last
        First and last day with a true value, `YYYY-MM-DD`; None without times.
    metric, reference
        The metric by which the model was chosen, and its value on the holdout; None for releases without it.
    classes
        Labels; empty for regression.
    resampled
        What the bootstrap draws, in words.
    value, cost
        The metric, and the cost per row at the threshold in force, of the rows compared; None without them.
    predictions, blocks
        The rows compared.
    n_estimated, estimated, estimated_cost
        What is expected of the latest rows by their probabilities alone, and of how many.
    estimated_known
        What was expected of the rows compared: to be measured by `value`.
    worse
        Groups of rows that got worse, the most first; None if that could not be tested.
    columns
        Cleaned columns of the rows compared.
    reference_losses
        Losses of holdout rows; None if the release holds none.
    """

    n_rows: int
    n_labelled: int
    metric: str
    classes: tuple[Any, ...] = ()
    n_compared: int = 0
    is_cut: bool = False
    compared_digest: str | None = None
    first: str | None = None
    last: str | None = None
    reference: ReferencePerformance | None = None
    resampled: str = ""
    value: Interval | None = None
    cost: Interval | None = None
    predictions: Predictions | None = None
    blocks: Blocks | None = None
    n_estimated: int = 0
    estimated: Interval | None = None
    estimated_cost: float | None = None
    estimated_known: float | None = None
    worse: Sequence[WorseGroup] | None = None
    columns: Mapping[str, pd.Series] = field(default_factory=dict)
    reference_losses: ReferenceLosses | None = None
    faults: Sequence[str] = ()
    remarks: Sequence[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept of it as plain data."""
        means = compute_means(self.predictions) if self.predictions is not None else {}
        return {
            "metric": self.metric,
            "rows": self.n_rows,
            "is_cut": self.is_cut,
            "labelled_rows": self.n_labelled,
            "compared_rows": self.n_compared,
            "compared_digest": self.compared_digest,
            "first_day": self.first,
            "last_day": self.last,
            "resampled": self.resampled,
            "value": self.value.to_dict() if self.value else None,
            "holdout": self.reference.value.to_dict() if self.reference else None,
            "cost": self.cost.to_dict() if self.cost else None,
            "holdout_cost": self.reference.cost.to_dict() if self.reference and self.reference.cost else None,
            "threshold": self.reference.threshold if self.reference else None,
            "mean_true": means.get("true"),
            "mean_prediction": means.get("prediction"),
            "estimated_rows": self.n_estimated,
            "estimated": self.estimated.value if self.estimated else None,
            "estimated_interval": self.estimated.to_dict() if self.estimated else None,
            "estimated_cost": self.estimated_cost,
            "holdout_estimated": self.reference.expected if self.reference else None,
            "holdout_estimated_cost": self.reference.expected_cost if self.reference else None,
            "estimated_of_compared": self.estimated_known,
            "worse_groups": None if self.worse is None else [asdict(one) for one in self.worse],
            "remarks": list(self.remarks),
        }


def measure_performance(
    params: Params,
    release: Release,
    reference: ReferencePerformance | None,
    scored: ScoredRows,
    *,
    losses: ReferenceLosses | None = None,
) -> Performance:
    """Compare the rows whose true values are known with the holdout; estimate the metric of all rows.

    Parameters
    ----------
    reference
        How good the model was on the holdout; None if the release does not hold that.
    losses
        Losses of holdout rows; None if the release holds none.
    """
    metric = str(release.facts.get("metric") or params.training.metric)
    known, zone = scored.known, params.data.time.zone if params.data.time else "UTC"
    days = name_days(scored.times, zone)
    found: dict[str, Any] = {
        "n_rows": len(scored.output),
        "is_cut": scored.is_cut,
        "n_labelled": len(known),
        "metric": metric,
        "classes": tuple(release.facts.get("classes") or ()),
        "reference": reference,
        "reference_losses": losses,
        "faults": scored.faults,
        "remarks": scored.remarks,
    }
    if days is not None and len(known):
        found |= {"first": min(days[known]), "last": max(days[known])}
    every = make_scored_predictions(release, scored.output, np.nan_to_num(scored.true))
    found |= estimate(params, scored, every, metric=metric, reference=reference)
    chosen = choose_recent(scored)
    if len(chosen) < FEWEST_LABELS:
        return Performance(**found, n_compared=0)
    ours = every.take(chosen)
    columns = {name: values.iloc[np.searchsorted(known, chosen)] for name, values in scored.columns.items()}
    blocks = find_scored_blocks(params, scored, chosen).fit_length(compute_losses(ours))
    drawn: dict[str, Any] = {
        "n_samples": min(params.evaluation.bootstrap_samples, MOST_SAMPLES),
        "seed": params.seed,
        "blocks": blocks,
    }
    sure = params.evaluation.confidence
    value = compute_intervals(ours, names=[metric], confidence=sure, **drawn)[metric]
    return Performance(
        **found,
        n_compared=len(chosen),
        compared_digest=compute_rows_digest(scored, chosen),
        resampled=str(blocks),
        value=None if np.isnan(value.value) else value,
        cost=measure_cost(ours, reference, confidence=sure, **drawn),
        predictions=ours,
        blocks=blocks,
        estimated_known=estimate_metric(metric, ours, recalibrate(ours, reference)) if ours.classes else None,
        columns=columns,
        worse=None if reference is None else find_worse_groups(columns, ours, blocks, reference, confidence=sure),
    )


def name_days(times: np.ndarray | None, zone: str) -> np.ndarray | None:
    """Return the day of each time in a zone as a string, shape (n_rows,); None without times."""
    if times is None:
        return None
    return pd.DatetimeIndex(times, tz="UTC").tz_convert(zone).strftime("%Y-%m-%d").to_numpy(dtype=object)


def make_scored_predictions(release: Release, output: np.ndarray, true: np.ndarray) -> Predictions:
    """Return predictions with true values, which are numbers or codes of classes."""
    classes = tuple(release.facts.get("classes") or ())
    if not classes:
        return Predictions(true.astype("float64"), output)
    positive = find_positive(classes, release.facts.get("positive"))
    return Predictions.from_proba(true.astype(np.int64), output.reshape(len(true), len(classes)), classes, positive)


def choose_recent(scored: ScoredRows) -> np.ndarray:
    """Return the positions of the rows to compare: of a log, the recent ones of those with a true value."""
    known = scored.known
    if scored.requests is None or scored.times is None or not len(known):
        return known
    return np.asarray(known[scored.times[known] > scored.times[known].max() - RECENT])


def compute_rows_digest(scored: ScoredRows, chosen: np.ndarray) -> str:
    """Return a digest of rows by their predictions and times; it stays if a true value is corrected."""
    digest = hashlib.blake2b(np.ascontiguousarray(scored.output[chosen]).tobytes(), digest_size=8)
    if scored.times is not None:
        digest.update(np.ascontiguousarray(scored.times[chosen]).tobytes())
    return digest.hexdigest()


def find_scored_blocks(params: Params, scored: ScoredRows, chosen: np.ndarray) -> Blocks:
    """Return the blocks of rows that are drawn together: groups, days, or the requests of a log."""
    group, times = params.data.split.group, scored.times
    if group is not None and scored.groups is not None:
        return Blocks(pd.factorize(scored.groups.iloc[chosen].astype(str), sort=True)[0], group)
    if params.data.time is not None and times is not None:
        rows = pd.DataFrame({PREDICT_AT: pd.DatetimeIndex(times[chosen], tz="UTC")})
        by_time = params.data.model_copy(update={"split": params.data.split.model_copy(update={"group": None})})
        return find_blocks(rows, by_time)
    if scored.requests is not None:
        return Blocks(pd.factorize(scored.requests[chosen], sort=True)[0], REQUEST)
    return make_rows(len(chosen))


def measure_cost(
    ours: Predictions,
    reference: ReferencePerformance | None,
    *,
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
) -> Interval | None:
    """Return the cost per row at the threshold in force; None without costs."""
    if reference is None or reference.costs is None or reference.threshold is None:
        return None
    costs = compute_costs(ours, reference.threshold, reference.costs)
    score = make_mean_score(costs)
    draws = [score(weights) for weights in draw_weights(ours, n_samples, seed=seed, blocks=blocks)]
    return make_interval(float(costs.mean()), draws, confidence, blocks)


def recalibrate(ours: Predictions, reference: ReferencePerformance | None) -> np.ndarray:
    """Return probabilities as calibrated on the holdout, shape (n_rows, n_classes)."""
    return ours.y_proba if reference is None else reference.recalibration.apply(ours.y_proba, ours.positive)


def estimate(
    params: Params, scored: ScoredRows, every: Predictions, *, metric: str, reference: ReferencePerformance | None
) -> dict[str, Any]:
    """Return what probabilities alone let expect of the latest rows, as fields of `Performance`; none without any."""
    if not every.classes or not len(every.y_true):
        return {}
    order = np.arange(len(every.y_true)) if scored.times is None else np.argsort(scored.times, kind="stable")
    latest = np.sort(order[-max(1, MOST_ESTIMATED // len(every.classes)) :])
    ours = every.take(latest)
    calibrated = recalibrate(ours, reference)
    found: dict[str, Any] = {"n_estimated": len(latest)}
    if reference is not None and reference.costs is not None and reference.threshold is not None:
        found["estimated_cost"] = estimate_cost(ours, calibrated, reference.threshold, reference.costs)
    score, value = make_estimate(metric, ours, calibrated), estimate_metric(metric, ours, calibrated)
    if score is None or value is None:
        return found
    if len(latest) < FEWEST_LABELS:
        return found | {"estimated": Interval(value, np.nan, np.nan)}
    blocks = find_scored_blocks(params, scored, latest).fit_length(estimate_losses(ours, calibrated))
    n_samples = min(params.evaluation.bootstrap_samples, ESTIMATE_SAMPLES)
    draws = [score(weights) for weights in islice(blocks.draw_weights(seed=params.seed), n_samples)]
    return found | {"estimated": make_interval(value, draws, params.evaluation.confidence, blocks)}


def find_worse_groups(
    columns: Mapping[str, pd.Series],
    ours: Predictions,
    blocks: Blocks,
    reference: ReferencePerformance,
    *,
    confidence: float,
) -> list[WorseGroup] | None:
    """Return the groups of rows whose mean loss is larger than on the holdout, beyond random variation.

    Every condition of the holdout that enough rows meet now is tested, one-sided (Welch), with standard errors of whole
    blocks. Only what passes the Benjamini-Hochberg correction is returned, with intervals adjusted for the selection;
    see `labkit.model.evaluation.slice_comparison`. None if no condition can be tested.
    """
    losses, lines = compute_losses(ours), []
    for name, cut in reference.cuts.items():
        if name not in columns:
            continue
        for code, now in measure_group_losses(columns[name], cut, losses, blocks).items():
            before = reference.groups[name].get(code)
            if before is None or before.error is None or now.error is None:
                continue
            error = max(float(np.hypot(now.error, before.error)), 1e-300)
            freedom = max(min(now.n_runs, before.n_runs) - 1, 1)
            excess = now.loss - before.loss
            p_value = float(stats.t.sf(excess / error, freedom))
            lines.append((p_value, error, freedom, cut.conditions[code], now.n_rows, now.loss, before.loss))
    if not lines:
        return None
    lines.sort(key=lambda line: line[0])
    alpha = 1 - confidence
    passed = [place for place, line in enumerate(lines, 1) if line[0] <= alpha * place / len(lines)]
    n_kept = max(passed, default=0)
    found = []
    for _, error, freedom, condition, n_rows, loss, before_loss in lines[:n_kept]:
        reach = error * float(stats.t.isf(alpha * n_kept / len(lines) / 2, freedom))
        excess = loss - before_loss
        found.append(WorseGroup(condition, n_rows, loss, before_loss, excess - reach, excess + reach))
    return sorted(found, key=lambda one: one.before - one.loss)


def find_loss(metric: str, now: Interval, before: Interval) -> Interval:
    """Return by how much a metric is worse than on the holdout, with the interval for independent rows.

    The halves of the two intervals are added as standard errors of independent means are.
    """
    sign = 1.0 if is_greater_better(metric) else -1.0
    worse = sign * (before.value - now.value)
    # A loss grows where the metric of the holdout may be better and that of now worse.
    ends_before = (before.value - before.low, before.high - before.value)
    ends_now = (now.high - now.value, now.value - now.low)
    if sign < 0:
        ends_before, ends_now = ends_before[::-1], ends_now[::-1]
    down, up = (float(np.hypot(first, second)) for first, second in zip(ends_before, ends_now, strict=True))
    return Interval(worse, worse - down, worse + up)
