"""The threshold of a two-class model: the predicted probability from which one acts, given what mistakes cost.

Not how good the probabilities are: that is `labkit.model.evaluation.metrics`. After Elkan, The Foundations of
Cost-Sensitive Learning (IJCAI 2001): for calibrated probabilities the threshold follows from the costs; a threshold
that is chosen on labelled rows makes up for probabilities that are not.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.model.estimators.candidates import N_JOBS, set_threads
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval, draw_weights, make_interval
from labkit.model.evaluation.metrics import make_mean_score
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.params.evaluation import Costs
from labkit.params.tables import Target


@dataclass(frozen=True)
class Outcome:
    """What acting from a threshold on costs and catches on some rows.

    Attributes
    ----------
    threshold
        One acts on a row whose chance of the class of interest is at least this.
    cost, always_yes, always_no
        Cost per row, in the unit of the params: of the threshold, of acting on every row, of acting on none.
    saving
        How much cheaper per row the threshold is than the cheaper of the two others; positive is better.
    recall
        Share of the class of interest that is acted on; 0 without such rows.
    precision
        Share of the rows acted on that are of the class; 0 if none is acted on.
    acted
        Share of all rows that are acted on.
    """

    threshold: float
    cost: Interval
    always_yes: float
    always_no: float
    saving: Interval
    recall: float
    precision: float
    acted: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def predict_apart(model: Pipeline, training: pd.DataFrame, validation: pd.DataFrame, *, target: Target) -> Predictions:
    """Return predictions for validation rows of the same pipeline fitted without them.

    The chosen model has been fitted on the validation rows too, so what it says of them is too good to choose by. Row
    features keep their state: they look at nothing that was not known at the time of the row.

    Parameters
    ----------
    model
        The chosen model, fitted on training and validation rows; it stays as it is.
    training, validation
        Clean rows with the target.
    """
    row_features, rest = model[0], clone(model[1:])
    set_threads(rest[-1], N_JOBS)
    rest.fit(row_features.transform(training), training[target.column])
    # A forest adds its trees' votes in the order in which threads finish: with one, always in the same.
    set_threads(rest[-1], 1)
    return compute_predictions(validation[target.column], rest, row_features.transform(validation), target)


def compute_fair_threshold(costs: Costs) -> float:
    """Return the cheapest threshold where chances can be taken at their word (Elkan 2001, eq. 2).

    >>> compute_fair_threshold(Costs(false_positive=1, false_negative=4))
    0.2
    """
    return costs.false_positive / (costs.false_positive + costs.false_negative)


def compute_costs(predictions: Predictions, threshold: float, costs: Costs) -> np.ndarray:
    """Return what each row costs if one acts from a threshold on, shape (n_rows,)."""
    is_hit = predictions.y_true == predictions.positive
    acts = predictions.y_proba[:, predictions.positive] >= threshold
    return np.where(acts & ~is_hit, costs.false_positive, np.where(~acts & is_hit, costs.false_negative, 0.0))


def compute_cost_curve(predictions: Predictions, costs: Costs) -> pd.DataFrame:
    """Return the cost per row of every threshold that makes a difference.

    Returns
    -------
    pandas.DataFrame
        `threshold`, rising, and `cost`: acting on all rows comes first, acting on none last.
    """
    levels, place = np.unique(predictions.y_proba[:, predictions.positive], return_inverse=True)
    is_hit = predictions.y_true == predictions.positive
    missed = np.concatenate([[0], np.cumsum(np.bincount(place, is_hit, len(levels)))])
    spared = np.concatenate([[0], np.cumsum(np.bincount(place, ~is_hit, len(levels)))])
    total = costs.false_negative * missed + costs.false_positive * (spared[-1] - spared)
    return pd.DataFrame({"threshold": [*levels, np.nextafter(levels[-1], np.inf)], "cost": total / len(is_hit)})


def choose_threshold(predictions: Predictions, costs: Costs) -> float:
    """Return the cheapest threshold on rows of known answer.

    Between two neighbouring chances every threshold costs the same: of those the one that follows from the costs
    alone is taken if it is among them, else the middle. Of equally cheap places the one nearest to it is taken.
    """
    curve, fair = compute_cost_curve(predictions, costs), compute_fair_threshold(costs)
    ends, cost = curve["threshold"].to_numpy(copy=True), curve["cost"].to_numpy()
    ends[-1] = max(1.0, ends[-1])
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = np.where((starts < fair) & (fair <= ends), fair, (starts + ends) / 2)
    cheapest = middles[np.isclose(cost, cost.min(), rtol=1e-12, atol=0)]
    return float(cheapest[np.argmin(np.abs(cheapest - fair))])


def judge_threshold(
    predictions: Predictions,
    threshold: float,
    costs: Costs,
    *,
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
) -> Outcome:
    """Return what a threshold costs and catches on rows that had no part in choosing it."""
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
    )
