"""Permutation importance: how much worse the model gets when one feature, or a family of features, is shuffled.

It does not explain individual predictions. After Breiman, Random Forests (2001), section 10. Features with the same
information mask each other: when only one is shuffled, the model can still rely on the other. A family is shuffled as a
whole, its rows kept together, so nothing within it masks anything. How families are made is in
`labkit.model.evaluation.families`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data.quality.profile import score_column
from labkit.model.evaluation.metrics import compute_metric, is_greater_better
from labkit.model.evaluation.predictions import compute_predictions
from labkit.params.tables import Target

N_SHUFFLES = 5
MOST_COLUMNS = 100
"""Maximum number of features to shuffle; if there are more, those that best explain the predictions are shuffled."""
PROBED_ROWS = 1000


def compute_importance(
    model: Any,
    rows: pd.DataFrame,
    metric: str,
    *,
    target: Target,
    most_rows: int,
    confidence: float,
    seed: int,
    families: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Return how much the metric gets worse when each feature or each family is shuffled, the most important first.

    Parameters
    ----------
    model
        Fitted pipeline from joined raw columns to predictions; its first step computes the features.
    rows
        Clean rows with the target.
    most_rows
        Maximum number of rows; if there are more, a random sample of this size is used.
    families
        Names of the features by family; without it, each feature is shuffled by itself.

    Returns
    -------
    pandas.DataFrame
        One row per feature or family: `column`, its name, `loss` (in the metric's unit; positive if the metric is worse
        without it), `low` and `high` (interval of the mean over the shuffles of these rows; it does not extend to other
        rows). Of very many features, only those that best explain the predictions.
    """
    drawn = rows.sample(most_rows, random_state=seed).sort_index() if len(rows) > most_rows else rows
    features, y_true = model[0].transform(drawn).reset_index(drop=True), drawn[target.column].reset_index(drop=True)
    rest, sign = model[1:], 1.0 if is_greater_better(metric) else -1.0
    if families is None:
        names = [str(name) for name in features]
        if len(names) > MOST_COLUMNS:
            names = choose_followed(rest, features, y_true, names, target=target, seed=seed)
        families = {name: (name,) for name in names}

    def score(made: pd.DataFrame) -> float:
        return sign * compute_metric(metric, compute_predictions(y_true, rest, made, target))

    random, whole = np.random.default_rng(seed), score(features)
    losses = np.empty((len(families), N_SHUFFLES))
    for place, members in enumerate(families.values()):
        for number in range(N_SHUFFLES):
            shuffled = features[[*members]].iloc[random.permutation(len(features))].set_axis(features.index)
            losses[place, number] = whole - score(features.assign(**{name: shuffled[name] for name in members}))
    reach = stats.t.ppf((1 + confidence) / 2, N_SHUFFLES - 1) * losses.std(axis=1, ddof=1) / np.sqrt(N_SHUFFLES)
    frame = pd.DataFrame({"column": list(families), "loss": losses.mean(axis=1)})
    frame = frame.assign(low=frame["loss"] - reach, high=frame["loss"] + reach)
    return frame.sort_values("loss", ascending=False, kind="stable").reset_index(drop=True)


def choose_followed(
    model: Any, features: pd.DataFrame, y_true: pd.Series, names: list[str], *, target: Target, seed: int
) -> list[str]:
    """Return, in their original order, the features that individually explain the predictions best."""
    few = features.head(PROBED_ROWS)
    predictions = compute_predictions(y_true.head(PROBED_ROWS), model, few, target)
    output = predictions.y_proba if predictions.classes else predictions.y_pred[:, None]
    liveliest = pd.Series(output[:, output.var(axis=0).argmax()], index=few.index)
    scores = np.nan_to_num([score_column(few[name], liveliest, "regression", seed=seed) for name in names])
    kept = np.argsort(-scores, kind="stable")[:MOST_COLUMNS]
    return [names[place] for place in sorted(kept.tolist())]
