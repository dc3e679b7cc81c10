"""Folds of the training rows, and candidates judged on them.

Every candidate and every trial of one comparison sees the same folds. Where rows have times, a fold is judged on rows
later than all it was fitted on, and fitted only on outcomes that were known by then; elsewhere rows are shuffled.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import Pipeline

from labkit.data.timeline import Timeline
from labkit.errors import DataError
from labkit.model.estimators.candidates import set_threads
from labkit.model.evaluation import metrics
from labkit.model.evaluation.predictions import compute_predictions
from labkit.model.training.time_budget import Budget
from labkit.params.tables import Target
from labkit.params.training import Training

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Positions of the rows to fit on and of the rows to judge on, per fold."""
FEW_ROWS, FEW_REPEATS = 200, 3
"""With fewer rows one cut of the folds is much of a lottery, so they are cut so many times."""


def choose_rows(n_rows: int, most_rows: int | None, *, seed: int, is_ordered: bool) -> np.ndarray:
    """Return positions of the rows to compare on, rising: the latest ones in time, else drawn at random.

    >>> choose_rows(5, 2, seed=0, is_ordered=True)
    array([3, 4])
    """
    if most_rows is None or n_rows <= most_rows:
        return np.arange(n_rows)
    if is_ordered:
        return np.arange(n_rows - most_rows, n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most_rows, replace=False))


def plan_folds(y_true: pd.Series, *, target: Target, training: Training, seed: int, timeline: Timeline | None) -> Folds:
    """Return the folds that the params ask for: cut several times where rows are few, once where they have times."""
    few = FEW_REPEATS if len(y_true) < FEW_ROWS else 1
    repeats = 1 if timeline is not None else training.repeats or few
    options = {"target": target, "n_folds": training.folds, "timeline": timeline}
    folds = [fold for number in range(repeats) for fold in make_folds(y_true, seed=seed + number, **options)]  # type: ignore[arg-type]
    if not folds:
        raise DataError(
            f"no fold of {len(y_true):,} training rows can be judged: too few rows of each class, or their outcomes "
            "are known too late (data.time.outcome_known_at): take fewer folds (training.folds) or more rows"
        )
    return folds


def make_folds(
    y_true: pd.Series, *, target: Target, n_folds: int, seed: int, timeline: Timeline | None = None
) -> Folds:
    """Return the folds: expanding in time if the rows have times, else shuffled, with classes in equal shares.

    Rows of a class that is not among those fitted on cannot be judged and are left out of the fold; so are rows whose
    outcome was not known when the first row to judge was asked for, and a fold of which nothing is left.

    Parameters
    ----------
    y_true
        Shape (n_rows,).
    timeline
        Of the same rows, which then stand in the order of time.
    """
    is_classes = target.task == "classification"
    if timeline is not None:
        split = TimeSeriesSplit(n_folds).split(y_true)
        folds = [(timeline.apply_embargo(train, test), test) for train, test in split]
        folds = [(train, test) for train, test in folds if len(train)]
    else:
        most = int(y_true.value_counts().iloc[0]) if is_classes else len(y_true)
        splitter = (StratifiedKFold if is_classes else KFold)(min(n_folds, most), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # A class of fewer rows than folds is missing in some of them, which is seen to below.
            warnings.filterwarnings("ignore", message="The least populated class")
            folds = list(splitter.split(y_true, y_true))
    if not is_classes:
        return folds
    labels = y_true.to_numpy()
    known = [(train, test[np.isin(labels[test], labels[train])]) for train, test in folds]
    return [(train, test) for train, test in known if len(test) and len(set(labels[train])) > 1]


def cross_validate(
    candidate: Pipeline,
    features: pd.DataFrame,
    y_true: pd.Series,
    *,
    target: Target,
    folds: Folds,
    budget: Budget | None = None,
) -> dict[str, float]:
    """Return mean and standard deviation of every figure over the folds.

    Raises
    ------
    BudgetError
        The budget was used up before the last fold.
    """
    scores = []
    for score in score_folds(candidate, features, y_true, target=target, folds=folds):
        scores.append(score)
        if budget is not None and len(scores) < len(folds):
            budget.check()
    return summarise(scores)


def score_folds(
    candidate: Pipeline, features: pd.DataFrame, y_true: pd.Series, *, target: Target, folds: Folds
) -> Iterator[dict[str, float]]:
    """Yield the figures of one fold after the other; whoever has seen enough stops asking."""
    for train, test in folds:
        fitted = fit_candidate(clone(candidate), features.iloc[train], y_true.iloc[train])
        predictions = compute_predictions(y_true.iloc[test], fitted, features.iloc[test], target)
        yield metrics.compute_metrics(predictions)


def summarise(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return mean and standard deviation (`<name>_std`) of each figure over the folds that have it; NaN if none has.

    A fold of few rows may hold one class alone, on which some figures are not defined.
    """
    summary: dict[str, float] = {}
    for name in scores[0]:
        values = np.array([score[name] for score in scores])
        values = values[~np.isnan(values)]
        mean = float(values.mean()) if len(values) else np.nan
        summary |= {name: mean, f"{name}_std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
    return summary


def fit_candidate(candidate: Pipeline, features: pd.DataFrame, y_true: pd.Series) -> Pipeline:
    """Fit a candidate with all threads, and leave it predicting with one.

    A forest adds its trees' votes in the order in which threads finish: with several, the last digits change from
    run to run.
    """
    candidate.fit(features, y_true)
    set_threads(candidate[-1], 1)
    return candidate


def describe_error(error: Exception) -> str:
    """Return an error's kind and the first line of what it says, for a table."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
