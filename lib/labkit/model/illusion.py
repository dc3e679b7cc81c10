"""What a random split would have claimed, beside what the declared split says.

A plain LightGBM on the clean columns as they are, fitted and scored under both. For the report on the split only:
nothing that is chosen later sees it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor

from labkit.data.profile import find_kind
from labkit.data.split import ASIDE
from labkit.model.metrics import compute_metric, make_answers
from labkit.params import Data, Target

MOST_ROWS = 60_000
FEWEST_ROWS = 2


@dataclass(frozen=True)
class Illusion:
    """One model's figure under two splits.

    Attributes
    ----------
    metric
        `roc_auc` (of several classes: the mean over them, each against the rest) or `r2`.
    random, declared
        The figure on rows drawn by chance, and on the holdout of the declared split; NaN where nothing is compared.
    rows
        Rows that the model was fitted on.
    reason
        Why nothing is compared; empty if it is.
    """

    metric: str
    method: str
    random: float = np.nan
    declared: float = np.nan
    rows: int = 0
    reason: str = ""

    @property
    def is_compared(self) -> bool:
        """Whether there are two figures to compare."""
        return not self.reason

    @property
    def difference(self) -> float:
        """By how much the random split flatters."""
        return self.random - self.declared


def compare_splits(parts: Mapping[str, pd.DataFrame], data: Data, *, seed: int) -> Illusion:
    """Fit and score one plain model under a random split and under the declared one, on equally many rows.

    Parameters
    ----------
    parts
        Clean rows by part, as `labkit.data.split.split_rows` gives them.

    Returns
    -------
    Illusion
        Without figures where the declared split is random itself, or where there is nothing to fit or to judge.
    """
    metric = "roc_auc" if data.target.task == "classification" else "r2"
    if data.split.method == "random":
        return Illusion(
            metric, data.split.method, reason="the split is random: there is no other one to compare it with"
        )
    rows = pd.concat([part for name, part in parts.items() if name != ASIDE])
    columns, truth = make_columns(rows.drop(columns=data.target.column)), rows[data.target.column]
    n_learn, n_judge = len(parts["training"]), len(parts["holdout"])
    if not columns.shape[1]:
        return Illusion(metric, data.split.method, reason="there is no column besides times to fit a model on")
    if n_judge < FEWEST_ROWS:
        return Illusion(metric, data.split.method, reason="the holdout has one row only")
    random = np.random.default_rng(seed)
    mixed, everything = random.permutation(len(rows)), np.arange(len(rows))
    # The parts follow each other in the table: training first, the holdout last.
    splits = [(mixed[:n_learn], mixed[-n_judge:]), (everything[:n_learn], everything[-n_judge:])]
    scores = []
    for fitted_on, judged_on in splits:
        chosen = np.sort(random.permutation(fitted_on)[:MOST_ROWS])
        tested = np.sort(random.permutation(judged_on)[:MOST_ROWS])
        scores.append(score(columns, truth, chosen, tested, metric=metric, target=data.target, seed=seed))
    reason = "" if np.isfinite(scores).all() else f"{metric} cannot be computed: the rows to judge on are of one class"
    return Illusion(metric, data.split.method, scores[0], scores[1], min(n_learn, MOST_ROWS), reason)


def make_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return columns as LightGBM takes them: numbers, and categories by code; times left out."""
    kinds = {name: find_kind(rows[name]) for name in rows.columns}
    types = {name: "category" if kind == "category" else "float64" for name, kind in kinds.items() if kind != "time"}
    columns = rows[list(types)].astype(types)
    # LightGBM refuses some characters in names.
    return columns.set_axis([f"column{number}" for number in range(len(types))], axis=1)


def score(
    columns: pd.DataFrame,
    truth: pd.Series,
    learn: np.ndarray,
    judge: np.ndarray,
    *,
    metric: str,
    target: Target,
    seed: int,
) -> float:
    """Return the figure of a plain LightGBM fitted on some rows and judged on others; NaN if there is none."""
    options: dict[str, Any] = {
        "n_estimators": 150,
        "num_leaves": 31,
        "n_jobs": 2,
        "random_state": seed,
        "deterministic": True,
    }
    options |= {"force_row_wise": True, "verbosity": -1, "learning_rate": 0.08}
    if target.task == "classification" and truth.iloc[learn].nunique() < 2:
        return np.nan
    make = LGBMClassifier if target.task == "classification" else LGBMRegressor
    model = make(**options).fit(columns.iloc[learn], truth.iloc[learn])
    return compute_metric(metric, make_answers(truth.iloc[judge], model, columns.iloc[judge], target))
