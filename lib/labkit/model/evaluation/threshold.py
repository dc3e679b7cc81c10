"""The decision threshold of a binary classifier: the predicted probability from which to act, given the error costs.

See `labkit.model.evaluation.metrics` for the quality of the probabilities. After Elkan, The Foundations of
Cost-Sensitive Learning (IJCAI 2001): for calibrated probabilities the threshold follows from the costs; a threshold
chosen on labelled rows compensates for probabilities that are not calibrated.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.model.estimators.candidates import N_JOBS, set_threads
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval, compute_intervals, draw_weights, make_interval
from labkit.model.evaluation.metrics import list_metrics_of_classes, make_mean_score
from labkit.model.evaluation.predictions import Predictions
from labkit.params.evaluation import Costs
from labkit.params.subject import Subject
from labkit.params.tables import Target
from labkit.units import format_share

HALF = 0.5
"""Threshold that predicts the most probable of two classes."""
COST = "cost per row"


@dataclass(frozen=True)
class Outcome:
    """Costs and metrics of a decision threshold on some rows.

    Attributes
    ----------
    threshold
        Rows whose probability of the class of interest is at least this are acted on.
    cost, always_yes, always_no
        Cost per row, in the unit of the params: of the threshold, of acting on every row, of acting on no row.
    saving
        How much cheaper per row the threshold is than the cheaper of the other two policies; positive is better.
    recall
        Fraction of the class of interest that is acted on; 0 without such rows.
    precision
        Fraction of the rows acted on that belong to the class of interest; 0 if none is acted on.
    acted
        Fraction of all rows that are acted on.
    metrics
        Metrics of the classes that the threshold predicts, by name; see
        `labkit.model.evaluation.metrics.list_metrics_of_classes`.
    costs
        The costs of the params as plain data.
    """

    threshold: float
    cost: Interval
    always_yes: float
    always_no: float
    saving: Interval
    recall: float
    precision: float
    acted: float
    metrics: Mapping[str, Interval]
    costs: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return asdict(self)


def fit_apart(model: Pipeline, training: pd.DataFrame, *, target: Target) -> Pipeline:
    """Return the same pipeline fitted without the validation rows, to choose a threshold on these.

    The chosen model has been fitted on the validation rows too, so its predictions for them are too optimistic to
    choose a threshold by. Row features keep their state, because they use only what was known at the time of the row.

    Parameters
    ----------
    model
        The chosen model, fitted on training and validation rows; it is not modified.
    training
        Clean rows with the target.
    """
    row_features, rest = model[0], clone(model[1:])
    set_threads(rest[-1], N_JOBS)
    rest.fit(row_features.transform(training), training[target.column])
    # A forest sums its trees' votes in the order in which threads finish; with one thread the order is always the same.
    set_threads(rest[-1], 1)
    return Pipeline([*model.steps[:1], *rest.steps])


def compare_scores(
    chosen_on: Predictions, apart: Predictions, ours: Predictions, *, threshold: float, costs: Costs
) -> pd.DataFrame:
    """Return what a threshold does to the scores that it was chosen on, and to those that it is applied to.

    Parameters
    ----------
    chosen_on, apart
        Predictions of the model fitted without the validation rows: of these, and of the holdout rows.
    ours
        Predictions of the evaluated model for the holdout rows.

    Returns
    -------
    pandas.DataFrame
        One row each: `rows`, `model`, the `mean probability` of the class of interest, the `true share` of rows that
        belong to it, the share that is `flagged`, and the `cost per row`.
    """
    without = "fitted without validation rows"
    scores = (("validation", without, chosen_on), ("holdout", without, apart), ("holdout", "evaluated", ours))
    return pd.DataFrame(
        {
            "rows": rows,
            "model": model,
            "mean probability": float(found.y_proba[:, found.positive].mean()),
            "true share": float((found.y_true == found.positive).mean()),
            "flagged": float((found.y_proba[:, found.positive] >= threshold).mean()),
            COST: float(compute_costs(found, threshold, costs).mean()),
        }
        for rows, model, found in scores
    )


def describe_flagged(found: Mapping[str, Any], subject: Subject, *, positive: object = None, places: int = 0) -> str:
    """Return how many rows a threshold flags, and how many of them rightly, as a phrase.

    Parameters
    ----------
    found
        An `Outcome` as plain data.
    positive
        The class of interest; None if it is not known.
    places
        Decimals of the percentages.

    Examples
    --------
    >>> flights = Subject("", "flight", "flights", {"1": "late"})
    >>> describe_flagged({"acted": 0.22, "recall": 0.44, "precision": 0.3}, flights, positive=1)
    'flags 22 % of the flights, catches 44 % of the late flights and is right in 30 % of the flights it flags'
    """
    is_known = positive is not None
    wanted = subject.name_rows(of_class=positive) if is_known else f"{subject.rows} of the class of interest"
    acted, recall, precision = (format_share(found[name], places) for name in ("acted", "recall", "precision"))
    return (
        f"flags {acted} of the {subject.rows}, catches {recall} of the {wanted} and is right in {precision} of the "
        f"{subject.rows} it flags"
    )


def compute_fair_threshold(costs: Costs) -> float:
    """Return the threshold with the lowest cost if probabilities are calibrated (Elkan 2001, eq. 2).

    >>> compute_fair_threshold(Costs(false_positive=1, false_negative=4))
    0.2
    """
    return costs.false_positive / (costs.false_positive + costs.false_negative)


def compute_costs(predictions: Predictions, threshold: float, costs: Costs) -> np.ndarray:
    """Return the cost of each row at a threshold, shape (n_rows,)."""
    is_hit = predictions.y_true == predictions.positive
    acts = predictions.y_proba[:, predictions.positive] >= threshold
    return np.where(acts & ~is_hit, costs.false_positive, np.where(~acts & is_hit, costs.false_negative, 0.0))


def compute_cost_curve(predictions: Predictions, costs: Costs) -> pd.DataFrame:
    """Return the cost per row of every threshold that leads to different decisions.

    Returns
    -------
    pandas.DataFrame
        `threshold`, ascending, and `cost`: the first row acts on all rows, the last on none.
    """
    levels, place = np.unique(predictions.y_proba[:, predictions.positive], return_inverse=True)
    is_hit = predictions.y_true == predictions.positive
    missed = np.concatenate([[0], np.cumsum(np.bincount(place, is_hit, len(levels)))])
    spared = np.concatenate([[0], np.cumsum(np.bincount(place, ~is_hit, len(levels)))])
    total = costs.false_negative * missed + costs.false_positive * (spared[-1] - spared)
    return pd.DataFrame({"threshold": [*levels, np.nextafter(levels[-1], np.inf)], "cost": total / len(is_hit)})


def choose_threshold(predictions: Predictions, costs: Costs) -> float:
    """Return the threshold with the lowest cost on labelled rows.

    All thresholds between two neighbouring probabilities cost the same. Among them, the threshold that follows from the
    costs alone is chosen if it lies in the interval, else the midpoint. Among intervals with the same cost, the one
    nearest to the threshold that follows from the costs alone is chosen.
    """
    curve, fair = compute_cost_curve(predictions, costs), compute_fair_threshold(costs)
    ends, cost = curve["threshold"].to_numpy(copy=True), curve["cost"].to_numpy()
    ends[-1] = max(1.0, ends[-1])
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = np.where((starts < fair) & (fair <= ends), fair, (starts + ends) / 2)
    cheapest = middles[np.isclose(cost, cost.min(), rtol=1e-12, atol=0)]
    return float(cheapest[np.argmin(np.abs(cheapest - fair))])


def evaluate_threshold(
    predictions: Predictions,
    threshold: float,
    costs: Costs,
    *,
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
) -> Outcome:
    """Return the costs and metrics of a threshold on rows that were not used to choose it."""
    each = {"own": compute_costs(predictions, threshold, costs)}
    each |= {"yes": compute_costs(predictions, -np.inf, costs), "no": compute_costs(predictions, np.inf, costs)}
    scores = {name: make_mean_score(values) for name, values in each.items()}
    draws = [
        {name: score(weights) for name, score in scores.items()}
        for weights in draw_weights(predictions, n_samples, seed=seed, blocks=blocks)
    ]
    means = {name: float(values.mean()) for name, values in each.items()}
    plain = "yes" if means["yes"] <= means["no"] else "no"
    savings = [draw[plain] - draw["own"] for draw in draws]
    is_hit, acts = predictions.y_true == predictions.positive, predictions.y_proba[:, predictions.positive] >= threshold
    both = int((is_hit & acts).sum())
    return Outcome(
        threshold,
        make_interval(means["own"], [draw["own"] for draw in draws], confidence, blocks),
        means["yes"],
        means["no"],
        make_interval(means[plain] - means["own"], savings, confidence, blocks),
        recall=both / max(int(is_hit.sum()), 1),
        precision=both / max(int(acts.sum()), 1),
        acted=float(acts.mean()),
        metrics=compute_intervals(
            predictions.decide(threshold),
            names=list_metrics_of_classes(),
            n_samples=n_samples,
            confidence=confidence,
            seed=seed,
            blocks=blocks,
        ),
        costs=costs.model_dump(exclude={"reason"}),
    )


def compare_thresholds(predictions: Predictions, threshold: float, costs: Costs, **draws: Any) -> pd.DataFrame:
    """Return the metrics of the predicted classes at the threshold in force and at 0.5, the most probable class.

    Parameters
    ----------
    draws
        Keyword arguments of `evaluate_threshold`.

    Returns
    -------
    pandas.DataFrame
        One row per metric of predicted classes, and a last one for the cost per row: `metric`, then for each of the two
        thresholds its value and the limits of its interval.
    """
    lines: dict[str, dict[str, Any]] = {name: {"metric": name} for name in (*list_metrics_of_classes(), COST)}
    for level in (threshold, HALF):
        found, column = evaluate_threshold(predictions, level, costs, **draws), f"at {level:.3g}"
        for name, one in (*found.metrics.items(), (COST, found.cost)):
            lines[name] |= {column: one.value, f"low, {column}": one.low, f"high, {column}": one.high}
    return pd.DataFrame(lines.values())
