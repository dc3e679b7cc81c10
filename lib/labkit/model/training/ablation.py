"""Ablation of families of features: what each is worth to a plain LightGBM.

It is fitted to training rows with all features and again without each family, and compared on validation rows. Unlike a
permutation, this shows what the other features can make up for. No later choice depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from labkit.data.timeline import drop_labels
from labkit.features.row_features import RowFeatures
from labkit.model.evaluation.baselines import find_inputs, make_columns, make_lightgbm
from labkit.model.evaluation.blocks import find_blocks
from labkit.model.evaluation.bootstrap import compare_paired
from labkit.model.evaluation.families import find_families
from labkit.model.evaluation.metrics import PROBE_METRICS, compute_losses, compute_metric
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.model.training.cross_validation import choose_rows
from labkit.params.tables import Data

ALL_NEW = "all new columns"
MOST_ROWS = 60_000
N_SAMPLES = 200
CONFIDENCE = 0.95
COLUMNS = ["family", "features", "with", "without", "gain", "low", "high"]


@dataclass(frozen=True)
class Ablation:
    """What each family of features is worth to a plain LightGBM.

    Attributes
    ----------
    metric
        `roc_auc` or `r2`.
    n_rows
        Number of rows that it was measured on.
    families
        One row per family that is not all there is: `family`, `features` (their number), `with` and `without` (the
        metric), `gain` (how much better the metric is with the family), `low` and `high` (its paired interval,
        resampling the blocks of `labkit.model.evaluation.blocks`).
    """

    metric: str
    n_rows: int
    families: pd.DataFrame


def compare_families(
    row_features: RowFeatures, learn: pd.DataFrame, check: pd.DataFrame, data: Data, *, seed: int
) -> Ablation:
    """Fit a plain LightGBM with all features and without each family, and compare them on other rows.

    The families are those of `labkit.model.evaluation.families`, and all new columns together.

    Parameters
    ----------
    row_features
        The fitted features.
    learn, check
        Features of training and validation rows with their labels; see `labkit.data.timeline`. Of more than
        `MOST_ROWS` training rows, the latest are used, or a random sample if rows have no time.

    Returns
    -------
    Ablation
        It has no families if none can be left out, or if the training rows have one class.
    """
    target, metric = data.target, PROBE_METRICS[data.target.task]
    drawn = learn.iloc[choose_rows(len(learn), MOST_ROWS, seed=seed, is_ordered=data.time is not None)]
    features = drop_labels(drawn, data)
    names = [str(name) for name in features]
    if target.task == "classification" and drawn[target.column].nunique() < 2:
        return Ablation(metric, len(check), pd.DataFrame(columns=COLUMNS))

    def predict(kept: Sequence[str]) -> Predictions:
        kinds, categories = find_inputs(features, kept)
        # Fits are short: on a busy machine, threads that wait for each other cost several times more.
        model = make_lightgbm(target, seed=seed).set_params(n_jobs=1)
        model.fit(make_columns(features, kinds, categories), drawn[target.column].to_numpy())
        return compute_predictions(check[target.column], model, make_columns(check, kinds, categories), target)

    whole = predict(names)
    blocks = find_blocks(check, data).fit_length(compute_losses(whole))
    lines = []
    families = find_families(row_features, data) | {ALL_NEW: list(row_features.find_origins())}
    for family, members in families.items():
        kept = [name for name in names if name not in {*members}]
        if not kept or len(kept) == len(names):
            continue
        without = predict(kept)
        gain = compare_paired(
            metric, whole, without, n_samples=N_SAMPLES, confidence=CONFIDENCE, seed=seed, blocks=blocks
        )
        scores = [compute_metric(metric, one) for one in (whole, without)]
        lines.append([family, len(members), *scores, gain.value, gain.low, gain.high])
    return Ablation(metric, len(check), pd.DataFrame(lines, columns=COLUMNS))
