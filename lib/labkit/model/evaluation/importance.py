"""Permutation importance: how much worse the model gets when one raw column is shuffled.

It does not explain individual predictions. After Breiman, Random Forests (2001), section 10. Columns with the same
information mask each other: when only one is shuffled, the model can still rely on the other.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.inspection import permutation_importance

from labkit.data.quality.profile import score_column
from labkit.model.evaluation.metrics import compute_metric, is_greater_better
from labkit.model.evaluation.predictions import compute_predictions
from labkit.params.tables import Target

N_SHUFFLES = 5
MOST_COLUMNS = 100
"""Maximum number of columns to shuffle; if there are more, those that best explain the predictions are shuffled."""
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
    fixed: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Return how much the metric gets worse when each raw column is shuffled, the most important column first.

    Parameters
    ----------
    model
        Fitted pipeline from joined raw columns to predictions; its first step names the columns that it uses.
    rows
        Clean rows with the target.
    most_rows
        Maximum number of rows; if there are more, a random sample of this size is used.
    fixed
        Columns that are not shuffled, such as the time of the prediction.

    Returns
    -------
    pandas.DataFrame
        One row per column: `column`, `loss` (in the metric's unit; positive if the metric is worse without the column),
        `low` and `high` (interval of the mean over the shuffles of these rows; it does not extend to other rows). Of
        very many columns, only those that best explain the predictions.
    """
    names = [str(name) for name in model[0].inputs_]
    drawn = rows.sample(most_rows, random_state=seed).sort_index() if len(rows) > most_rows else rows
    drawn = drawn.reset_index(drop=True)
    held_names = [name for name in names if name in fixed]
    shuffled = [name for name in names if name not in fixed]
    if len(shuffled) > MOST_COLUMNS:
        followed = choose_followed(model, drawn, shuffled, target=target, seed=seed)
        held_names += [name for name in shuffled if name not in followed]
        shuffled = followed
    held = drawn[held_names]
    sign = 1.0 if is_greater_better(metric) else -1.0

    def score(fitted: Any, features: pd.DataFrame, y_true: pd.Series) -> float:
        predictions = compute_predictions(y_true, fitted, pd.concat([features, held], axis=1), target)
        return sign * compute_metric(metric, predictions)

    found = permutation_importance(
        model, drawn[shuffled], drawn[target.column], scoring=score, n_repeats=N_SHUFFLES, random_state=seed, n_jobs=1
    )
    reach = stats.t.ppf((1 + confidence) / 2, N_SHUFFLES - 1) * found.importances.std(axis=1, ddof=1)
    reach = reach / np.sqrt(N_SHUFFLES)
    frame = pd.DataFrame({"column": shuffled, "loss": found.importances_mean})
    frame = frame.assign(low=frame["loss"] - reach, high=frame["loss"] + reach)
    return frame.sort_values("loss", ascending=False, kind="stable").reset_index(drop=True)


def choose_followed(model: Any, rows: pd.DataFrame, names: list[str], *, target: Target, seed: int) -> list[str]:
    """Return, in their original order, the columns that individually explain the predictions best."""
    few = rows.head(PROBED_ROWS)
    predictions = compute_predictions(few[target.column], model, few, target)
    output = predictions.y_proba if predictions.classes else predictions.y_pred[:, None]
    liveliest = pd.Series(output[:, output.var(axis=0).argmax()], index=few.index)
    scores = np.nan_to_num([score_column(few[name], liveliest, "regression", seed=seed) for name in names])
    kept = np.argsort(-scores, kind="stable")[:MOST_COLUMNS]
    return [names[place] for place in sorted(kept.tolist())]
