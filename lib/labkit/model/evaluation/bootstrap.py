"""Confidence intervals of metrics, and of the difference between two models on the same rows.

The method is the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13), widened
for small samples (Hesterberg, What Teachers Should Know about the Bootstrap, The American Statistician, 2015, section
5.3). It resamples the blocks of `labkit.model.evaluation.blocks`, which are single rows only if rows are independent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.metrics import compute_metric, is_greater_better, list_metrics, make_score
from labkit.model.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Interval:
    """A metric and the limits of its confidence interval; NaN where they are undefined on these rows."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the interval as plain data, with None for undefined values."""
        return {name: None if np.isnan(end) else end for name, end in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, float | None]) -> "Interval":
        """Return an interval from the result of `to_dict`."""
        return cls(**{name: np.nan if end is None else end for name, end in content.items()})


def compute_means(predictions: Predictions) -> dict[str, float]:
    """Return the mean true value, `true`, and the mean prediction, `prediction`, of all rows.

    With two classes, these are the fraction of rows in the class of interest and its mean probability. With more
    classes, they are the fraction of rows whose most probable class is the true class, and the mean probability of the
    most probable class.
    """
    if not predictions.classes:
        return {"true": float(predictions.y_true.mean()), "prediction": float(predictions.y_pred.mean())}
    if len(predictions.classes) == 2:
        probabilities = predictions.y_proba[:, predictions.positive]
        return {
            "true": float((predictions.y_true == predictions.positive).mean()),
            "prediction": float(probabilities.mean()),
        }
    return {
        "true": float((predictions.y_pred == predictions.y_true).mean()),
        "prediction": float(predictions.y_proba.max(axis=1).mean()),
    }


def draw_weights(predictions: Predictions, n_samples: int, *, seed: int, blocks: Blocks) -> Iterator[np.ndarray]:
    """Draw blocks of rows with replacement, `n_samples` times, and yield how often each row was drawn.

    Yields
    ------
    numpy.ndarray
        Integers of shape (n_rows,).
    """
    n_classes = min(2, len(np.unique(predictions.y_true))) if predictions.classes else 0
    draws = blocks.draw_weights(seed=seed)
    n_drawn = 0
    while n_drawn < n_samples:
        weights = next(draws)
        # The area under the curve is undefined for a draw of a single class, so it is drawn again.
        if n_classes < 2 or np.ptp(predictions.y_true[weights > 0]):
            n_drawn += 1
            yield weights


def compute_intervals(
    predictions: Predictions,
    *,
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
    names: Sequence[str] = (),
) -> dict[str, Interval]:
    """Compute every metric of the task, or the named metrics, with bootstrap intervals."""
    scores = {name: make_score(name, predictions) for name in (names or list_metrics(predictions))}
    samples: dict[str, list[float]] = {name: [] for name in scores}
    for weights in draw_weights(predictions, n_samples, seed=seed, blocks=blocks):
        for name, score in scores.items():
            samples[name].append(score(weights))
    return {
        name: make_interval(compute_metric(name, predictions), samples[name], confidence, blocks) for name in scores
    }


Intervals = dict[str, dict[str, Interval]]
"""Intervals by model and metric."""


def compare_models(
    models: Mapping[str, Mapping[str, Predictions]], *, n_samples: int, confidence: float, seed: int, blocks: Blocks
) -> tuple[Intervals, Intervals]:
    """Compute every metric of several models on the same rows, and the paired gain of the first over each other.

    All are scored on the same bootstrap draws; see `compare_paired`.

    Parameters
    ----------
    models
        Predictions by model and metric: a baseline may have predictions of its own for each metric.

    Returns
    -------
    tuple of dict
        Intervals by model and metric, and the gains of the first model by other model and metric; positive is better.
    """
    first, *others = models
    scores = {model: {name: make_score(name, one) for name, one in found.items()} for model, found in models.items()}
    samples: dict[str, dict[str, list[float]]] = {
        model: {name: [] for name in found} for model, found in scores.items()
    }
    some = next(iter(models[first].values()))
    for weights in draw_weights(some, n_samples, seed=seed, blocks=blocks):
        for model, by_metric in scores.items():
            for name, score in by_metric.items():
                samples[model][name].append(score(weights))
    values = {
        model: {name: compute_metric(name, one) for name, one in found.items()} for model, found in models.items()
    }
    found = {
        model: {name: make_interval(values[model][name], drawn, confidence, blocks) for name, drawn in one.items()}
        for model, one in samples.items()
    }
    gains: Intervals = {other: {} for other in others}
    for other in others:
        for name in values[other]:
            sign = 1.0 if is_greater_better(name) else -1.0
            pairs = zip(samples[first][name], samples[other][name], strict=True)
            gain = sign * (values[first][name] - values[other][name])
            drawn = [sign * (own - their) for own, their in pairs]
            gains[other][name] = make_interval(gain, drawn, confidence, blocks)
    return found, gains


def compare_paired(
    name: str, first: Predictions, second: Predictions, *, n_samples: int, confidence: float, seed: int, blocks: Blocks
) -> Interval:
    """Return by how much the first predictions are better than the second on the same rows; positive is better.

    Both are scored on the same bootstrap draws, so effects that make a draw easy or hard for both cancel out.
    """
    sign = 1.0 if is_greater_better(name) else -1.0
    ours, theirs = make_score(name, first), make_score(name, second)
    draws = draw_weights(first, n_samples, seed=seed, blocks=blocks)
    gains = [sign * (ours(weights) - theirs(weights)) for weights in draws]
    gain = sign * (compute_metric(name, first) - compute_metric(name, second))
    return make_interval(gain, gains, confidence, blocks)


def make_interval(value: float, samples: list[float], confidence: float, blocks: Blocks) -> Interval:
    """Return the percentile interval of bootstrap samples, widened for the number of independent blocks.

    A percentile interval is too narrow by a factor of sqrt((n - 1) / n) and by the difference between the normal and
    Student's t distribution, so more extreme quantiles are used. With a single block there is no interval: its limits
    are NaN.
    """
    n_independent = blocks.n_independent
    if n_independent < 2 or np.isnan(samples).any():
        return Interval(float(value), np.nan, np.nan)
    reach = stats.t.isf((1 - confidence) / 2, n_independent - 1) * np.sqrt(n_independent / (n_independent - 1))
    tail = stats.norm.sf(reach)
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))
