"""Comparison of the metric under a random split with that under the declared split.

A probe LightGBM is fitted and scored under both. It sees the columns of the plain LightGBM in the evaluation, but has
settings of its own, `PROBE`, and never stands beside the model. The result is only reported; no later choice depends
on it. The interval of the difference resamples the blocks of `labkit.model.evaluation.blocks`,
separately for each holdout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.split import ASIDE
from labkit.model.evaluation.baselines import find_inputs, make_columns, make_lightgbm
from labkit.model.evaluation.blocks import Blocks, find_blocks
from labkit.model.evaluation.bootstrap import Interval, draw_weights, make_interval
from labkit.model.evaluation.metrics import PROBE_METRICS, compute_losses, compute_metric, make_score
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.params.tables import Data, Target

PROBE: dict[str, Any] = {"n_estimators": 150, "learning_rate": 0.08}
"""Settings in which the probe differs from plain LightGBM."""


MOST_ROWS = 60_000
FEWEST_HOLDOUT_ROWS = 2
N_SAMPLES = 200
CONFIDENCE = 0.95
NOT_COMPARED = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class SplitComparison:
    """One model's metric under two splits.

    Attributes
    ----------
    metric
        `roc_auc` (with several classes, the one-vs-rest mean over them) or `r2`.
    random, declared
        The metric on rows drawn at random, and on the holdout of the declared split; NaN if nothing is compared.
    rows
        Number of rows that the model was fitted on.
    reason
        Why nothing is compared; empty if there is a comparison.
    difference
        `random - declared`, positive if the metric is higher under the random split, with its bootstrap interval; the
        limits are NaN if there are too few independent rows.
    resampled
        Description of the blocks of the declared holdout that the interval resamples.
    """

    metric: str
    method: str
    random: float = np.nan
    declared: float = np.nan
    rows: int = 0
    reason: str = ""
    difference: Interval = NOT_COMPARED
    resampled: str = ""

    @property
    def is_compared(self) -> bool:
        """Whether two values were compared."""
        return not self.reason

    @property
    def is_different(self) -> bool:
        """Whether the two values differ beyond random variation: the interval of the difference excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0


def compare_splits(parts: Mapping[str, pd.DataFrame], data: Data, *, seed: int) -> SplitComparison:
    """Fit and score the probe LightGBM under a random split and under the declared split, on the same number of rows.

    Parameters
    ----------
    parts
        Clean rows by part, as returned by `labkit.data.split.split_rows`.

    Returns
    -------
    SplitComparison
        It has a reason instead of values if the declared split is itself random, or if there is nothing to fit or to
        evaluate.
    """
    metric, method = PROBE_METRICS[data.target.task], data.split.method
    if method == "random":
        return SplitComparison(metric, method, reason="the split is random: there is no other split to compare it with")
    rows = pd.concat([part for name, part in parts.items() if name != ASIDE])
    kinds, categories = find_inputs(rows, rows.columns.drop(data.target.column))
    columns, y_true = make_columns(rows, kinds, categories), rows[data.target.column]
    n_learn, n_test = len(parts["training"]), len(parts["holdout"])
    if not columns.shape[1]:
        return SplitComparison(metric, method, reason="there is no column besides times to fit a model on")
    if n_test < FEWEST_HOLDOUT_ROWS:
        return SplitComparison(metric, method, reason="the holdout has fewer than two rows")
    random = np.random.default_rng(seed)
    mixed, everything = random.permutation(len(rows)), np.arange(len(rows))
    blocks, evaluated = find_blocks(rows, data), []
    # The parts are in order in the table: training first, holdout last.
    for fitted_on, evaluated_on in ((mixed[:n_learn], mixed[-n_test:]), (everything[:n_learn], everything[-n_test:])):
        chosen = np.sort(random.permutation(fitted_on)[:MOST_ROWS])
        tested = np.sort(random.permutation(evaluated_on)[:MOST_ROWS])
        if data.target.task == "classification" and y_true.iloc[chosen].nunique() < 2:
            return SplitComparison(metric, method, reason="the rows to fit a model on have only one class")
        predictions = predict_with_probe(columns, y_true, chosen, tested, target=data.target, seed=seed)
        evaluated.append((predictions, blocks.take(tested).fit_length(compute_losses(predictions))))
    scores = [compute_metric(metric, predictions) for predictions, _ in evaluated]
    if not np.isfinite(scores).all():
        return SplitComparison(
            metric, method, reason=f"{metric} cannot be computed: the rows to evaluate it on have only one class"
        )
    difference = compute_difference(metric, *evaluated, seed=seed)
    n_rows, resampled = min(n_learn, MOST_ROWS), str(evaluated[1][1])
    return SplitComparison(metric, method, scores[0], scores[1], n_rows, difference=difference, resampled=resampled)


def compute_difference(
    metric: str, first: tuple[Predictions, Blocks], second: tuple[Predictions, Blocks], *, seed: int
) -> Interval:
    """Return by how much a metric is larger on the first rows than on the second, resampled separately."""
    samples = []
    for number, (predictions, blocks) in enumerate((first, second)):
        score = make_score(metric, predictions)
        samples.append(
            [score(draw) for draw in draw_weights(predictions, N_SAMPLES, seed=seed + number, blocks=blocks)]
        )
    value = compute_metric(metric, first[0]) - compute_metric(metric, second[0])
    fewest = min(first[1], second[1], key=lambda blocks: blocks.n_independent)
    return make_interval(value, [one - other for one, other in zip(*samples, strict=True)], CONFIDENCE, fewest)


def predict_with_probe(
    columns: pd.DataFrame, y_true: pd.Series, learn: np.ndarray, test: np.ndarray, *, target: Target, seed: int
) -> Predictions:
    """Return the predictions of a probe LightGBM, fitted on some rows, for other rows."""
    model = make_lightgbm(target, seed=seed, **PROBE).fit(columns.iloc[learn], y_true.iloc[learn])
    return compute_predictions(y_true.iloc[test], model, columns.iloc[test], target)
