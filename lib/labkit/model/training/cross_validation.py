"""Cross-validation of candidates on folds of the training rows.

All candidates and trials of a comparison use the same folds. If rows have times, the test rows of a fold are later than
all its training rows, and only outcomes known by then are used for fitting; otherwise rows are shuffled.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from labkit.data.timeline import Timeline
from labkit.errors import DataError, get_first_line
from labkit.model.estimators.candidates import set_threads
from labkit.model.evaluation import metrics
from labkit.model.evaluation.predictions import compute_predictions
from labkit.model.training.prepared_folds import PreparedFolds
from labkit.params.own_calls import find_own_line, own_code
from labkit.params.tables import Target
from labkit.params.training import Training

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Positions of the training rows and of the test rows of each fold."""
FEW_ROWS, FEW_REPEATS = 200, 3
"""With fewer than `FEW_ROWS` rows the result of a single split is too random, so it is repeated `FEW_REPEATS` times."""


def choose_rows(n_rows: int, most_rows: int | None, *, seed: int, is_ordered: bool) -> np.ndarray:
    """Return sorted positions of the rows for the comparison: the latest rows if ordered in time, else a random sample.

    >>> choose_rows(5, 2, seed=0, is_ordered=True)
    array([3, 4])
    """
    if most_rows is None or n_rows <= most_rows:
        return np.arange(n_rows)
    if is_ordered:
        return np.arange(n_rows - most_rows, n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most_rows, replace=False))


def plan_folds(y_true: pd.Series, *, target: Target, training: Training, seed: int, timeline: Timeline | None) -> Folds:
    """Return the folds that the params specify: repeated if there are few rows, never repeated if rows have times."""
    few = FEW_REPEATS if len(y_true) < FEW_ROWS else 1
    repeats = 1 if timeline is not None else training.repeats or few
    options = {"target": target, "n_folds": training.folds, "timeline": timeline}
    folds = [fold for number in range(repeats) for fold in make_folds(y_true, seed=seed + number, **options)]  # type: ignore[arg-type]
    if not folds:
        raise DataError(
            f"no fold of {len(y_true):,} training rows can be scored: too few rows of each class, or their outcomes "
            "are known too late (data.time.outcome_known_at): use fewer folds (training.folds) or more rows"
        )
    return folds


def make_folds(
    y_true: pd.Series, *, target: Target, n_folds: int, seed: int, timeline: Timeline | None = None
) -> Folds:
    """Return the folds: an expanding window if the rows have times, else shuffled and stratified by class."""
    # Test rows of a class that is not among the training rows cannot be evaluated and are left out; so are training
    # rows whose outcome was not known when the first test row was requested, and folds without rows. With a timeline,
    # the rows have to be in chronological order.
    is_classes = target.task == "classification"
    if timeline is not None:
        split = TimeSeriesSplit(n_folds).split(y_true)
        folds = [(timeline.apply_embargo(train, test), test) for train, test in split]
        folds = [(train, test) for train, test in folds if len(train)]
    else:
        most = int(y_true.value_counts().iloc[0]) if is_classes else len(y_true)
        splitter = (StratifiedKFold if is_classes else KFold)(min(n_folds, most), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # A class with fewer rows than folds is missing in some of them, which is handled below.
            warnings.filterwarnings("ignore", message="The least populated class")
            folds = list(splitter.split(y_true, y_true))
    if not is_classes:
        return folds
    labels = y_true.to_numpy()
    known = [(train, test[np.isin(labels[test], labels[train])]) for train, test in folds]
    return [(train, test) for train, test in known if len(test) and len(set(labels[train])) > 1]


def cross_validate(
    candidate: Pipeline, features: pd.DataFrame, y_true: pd.Series, *, target: Target, folds: Folds
) -> dict[str, float]:
    """Return the mean and standard deviation of every metric over the folds."""
    options: dict[str, Any] = {"target": target, "folds": folds}
    return summarise_folds(
        [score_fold(candidate, features, y_true, **options, number=number) for number in range(len(folds))]
    )


def score_fold(
    candidate: Pipeline,
    features: pd.DataFrame,
    y_true: pd.Series,
    *,
    target: Target,
    folds: Folds,
    number: int,
    prepared: PreparedFolds | None = None,
) -> dict[str, float]:
    """Return the metrics of a candidate in one fold; what is raised has a note that names the fold.

    Parameters
    ----------
    prepared
        Folds that may be prepared already, for candidates whose estimators do not change their input: labkit's own and
        those of PyCaret.
    """
    train, test = folds[number]
    try:
        with own_code():
            rows = features.iloc[train], features.iloc[test]
            if prepared is not None:
                rows = prepared.prepare(number, candidate[0], rows, y_true.iloc[train])
                candidate = Pipeline(candidate.steps[1:])
            fitted = fit_candidate(clone(candidate), rows[0], y_true.iloc[train])
            # Which of several equally distant rows are the nearest neighbours depends on the number of threads.
            with threadpool_limits(1):
                predictions = compute_predictions(y_true.iloc[test], fitted, rows[1], target)
        return metrics.compute_metrics(predictions)
    except Exception as error:  # whatever a library raises
        error.add_note(f"in fold {number + 1} of {len(folds)}")
        raise


def summarise_folds(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean and standard deviation (`<name>_std`) of each metric over the folds in which it is defined.

    The mean is NaN if the metric is defined in no fold. A fold of few rows may contain a single class, for which some
    metrics are undefined.
    """
    summary: dict[str, float] = {}
    for name in scores[0]:
        values = np.array([score[name] for score in scores])
        values = values[~np.isnan(values)]
        mean = float(values.mean()) if len(values) else np.nan
        summary |= {name: mean, f"{name}_std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
    return summary


def fit_candidate(candidate: Pipeline, features: Any, y_true: pd.Series) -> Pipeline:
    """Fit a candidate with all threads, and set it to predict with one thread.

    A forest sums its trees' votes in the order in which threads finish; with several threads, the last digits change
    from run to run.
    """
    candidate.fit(features, y_true)
    set_threads(candidate[-1], 1)
    return candidate


class FitFailedError(Exception):
    """A fit in another process failed; the message is what `describe_error` returned there."""


def describe_error(error: Exception) -> str:
    """Return an error's type and first line, and in which line of the user's own code and fold it occurred."""
    if isinstance(error, FitFailedError):
        return str(error)
    own = find_own_line(error)
    place = [f"at {own}"] if own else []
    return ", ".join([f"{type(error).__name__}: {get_first_line(error)}", *place, *getattr(error, "__notes__", [])])
