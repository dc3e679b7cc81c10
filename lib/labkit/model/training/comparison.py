"""Comparison of candidates by cross-validation.

Every candidate is a whole pipeline of preprocessing and estimator and is cross-validated as such: imputation and
encoding are learned again in each fold. Row features come before it and are not refitted, because they are computed
from the row itself and from outcomes that were known at its time, never from its own target. PyCaret, used in
`labkit.model.training.pycaret` only, does nothing but propose estimators. These are plain scikit-learn and LightGBM
estimators, so a model loads and predicts without PyCaret.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.data.timeline import Timeline
from labkit.errors import ModelError, list_briefly
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import make_candidate as make_candidate
from labkit.model.estimators.preprocessing import adapt_preparation as adapt_preparation
from labkit.model.estimators.preprocessing import find_kinds as find_kinds
from labkit.model.estimators.preprocessing import make_preparation as make_preparation
from labkit.model.evaluation import metrics
from labkit.model.evaluation.predictions import Predictions, encode_labels
from labkit.model.evaluation.row_hashes import ATTRIBUTE, hash_rows
from labkit.model.training.cross_validation import (
    choose_rows,
    describe_error,
    fit_candidate,
    plan_folds,
    summarise_folds,
)
from labkit.model.training.fit_processes import FitsInTurn, FoldScore, Rows, count_processes, open_fits
from labkit.model.training.own_candidates import ROWS_OF_TRIAL, collect_own, make_own
from labkit.model.training.pycaret import find_engine, make_source
from labkit.model.training.time_budget import Budget
from labkit.params.own_candidates import Search, name_own
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.tables import Target, find_positive
from labkit.params.training import DUMMY, Training


@dataclass(frozen=True)
class Comparison:
    """Results of a comparison of candidates.

    Attributes
    ----------
    frame
        The leaderboard, best first: `rank`, `model`, `source`, mean and standard deviation of each metric over the
        folds (`mae`, `mae_std`, …), `error` (empty, or why the candidate failed). It contains no times, so it is the
        same in every run.
    seconds
        Time to fit and score each candidate, in seconds.
    best
        Name of the best candidate other than the dummy.
    candidates
        The unfitted pipelines by name.
    n_rows
        Number of rows on which candidates were compared.
    n_folds
        Number of folds in which each candidate was evaluated.
    budget
        Time budget; what remains of it is used for tuning.
    searches
        Search space of each candidate of the user's own that has one.
    by_fold
        The metric of each evaluated candidate in every fold, shape (n_folds,).
    """

    frame: pd.DataFrame
    seconds: dict[str, float]
    best: str
    candidates: dict[str, Pipeline]
    n_rows: int
    n_folds: int = 0
    budget: Budget = field(default_factory=Budget)
    searches: dict[str, Search] = field(default_factory=dict)
    by_fold: dict[str, np.ndarray] = field(default_factory=dict)


def compare(
    features: pd.DataFrame,
    y_true: pd.Series,
    *,
    target: Target,
    training: Training,
    seed: int,
    timeline: Timeline | None = None,
    own: Mapping[str, Any] | None = None,
    on_candidate: Callable[[str, str], None] = lambda name, result: None,
) -> Comparison:
    """Cross-validate every candidate on the training rows and rank them.

    Parameters
    ----------
    features
        Output of `RowFeatures`, shape (n_rows, n_features); in chronological order if there is a `timeline`.
    y_true
        True values, shape (n_rows,).
    timeline
        When the prediction of each row was requested and its outcome became known, if rows have times; see
        `labkit.model.training.cross_validation`.
    own
        Further candidates by name: estimators, or `labkit.params.own_candidates.Candidate`.
    on_candidate
        Called after each candidate with its name and its metric or error.

    Raises
    ------
    ParamsError
        The engine is not installed, a candidate of the user's own is no estimator, or a metric cannot be imported.
    DataError
        There is no fold in which candidates can be evaluated.
    ModelError
        A metric of the user's own fails or is random; or every candidate other than the dummy failed.
    """
    added = collect_own(own or {}, training, target, seed=seed)
    if OWN_METRICS.paths:
        check_metrics(y_true, target)
    budget = Budget(training.budget_seconds)
    rows = choose_rows(len(features), training.most_rows, seed=seed, is_ordered=timeline is not None)
    features, y_true = features.iloc[rows], y_true.iloc[rows]
    times = None if timeline is None else timeline.take(rows)
    folds = plan_folds(y_true, target=target, training=training, seed=seed, timeline=times)
    propose = make_source(features, y_true, target=target, training=training, seed=seed)

    def make(model: str) -> Pipeline:
        candidates[model] = (
            make_own(model, added[model], features, y_true, target=target, training=training, seed=seed)
            if model in added
            else propose(model)
        )
        return candidates[model]

    lines: list[dict[str, Any]] = []
    seconds, by_fold, candidates = dict[str, float](), dict[str, np.ndarray](), dict[str, Pipeline]()
    models = [*dict.fromkeys([*map(name_own, training.models), *added])]
    in_turn = FitsInTurn(evaluated := Rows(features, y_true, target, folds))
    n_processes = 1 if training.budget_seconds is not None else count_processes(len(features))
    with open_fits(evaluated, n_processes=n_processes) as fits:
        for model in models:
            (in_turn if model in added else fits).plan(model, partial(make, model))
        for model in models:
            source, each = "own" if model in added else find_engine(model, target, training.engine), list[FoldScore]()
            line: dict[str, Any] = {"model": model, "source": source}
            try:
                # The budget never interrupts the first candidate that is fitted besides the dummy: one is needed.
                limit = budget if any(not one["error"] and one["model"] != DUMMY for one in lines) else Budget()
                limit.check()
                if model in added:
                    fits.finish()
                with closing((in_turn if model in added else fits).list_scores(model)) as scored:
                    for score in scored:
                        each.append(score)
                        score.check()
                        if len(each) < len(folds):
                            limit.check()
                scores = summarise_folds([score.metrics for score in each])
                by_fold[model] = np.array([score.metrics[training.metric] for score in each])
                if np.isnan(scores[training.metric]):
                    raise ModelError(f"{training.metric} is not defined on any fold: each has rows of only one class")
                line |= {**scores, "error": ""}
                on_candidate(model, f"{training.metric} {scores[training.metric]:.4g}")
            except Exception as error:  # whatever a library raises is recorded with the candidate
                line["error"] = describe_error(error)
                on_candidate(model, line["error"])
            lines.append(line)
            seconds[model] = sum(score.seconds for score in each)
    frame = rank(pd.DataFrame(lines), training.metric)
    searches = {name: one.search for name, one in added.items() if one.search}
    return Comparison(
        frame, seconds, find_best(frame), candidates, len(features), len(folds), budget, searches, by_fold
    )


def check_metrics(y_true: pd.Series, target: Target) -> None:
    """Raise ParamsError or ModelError if a metric of the user's own cannot be computed on a few of the true values."""
    is_classes = target.task == "classification"
    each = max(ROWS_OF_TRIAL // max(y_true.nunique(), 1), 10)
    few = y_true.groupby(y_true, sort=False, observed=True).head(each) if is_classes else y_true.head(ROWS_OF_TRIAL)
    classes = tuple(np.unique(few).tolist()) if is_classes else ()
    codes = encode_labels(few.tolist(), classes) if classes else few.to_numpy("float64")
    metrics.check_own_metrics(
        Predictions(codes, codes, classes=classes, positive=find_positive(classes, target.positive))
    )


def find_best(frame: pd.DataFrame) -> str:
    """Return the name of the best candidate other than the dummy; raise ModelError if all others failed."""
    ranked = frame[(frame["error"] == "") & (frame["model"] != DUMMY)]
    if ranked.empty:
        reasons = list_briefly(
            f"{model}: {error}" for model, error in zip(frame["model"], frame["error"], strict=True) if error
        )
        raise ModelError(f"no candidate besides the dummy could be fitted: {reasons or 'training.models has none'}")
    return str(ranked["model"].iloc[0])


def rank(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the leaderboard, best first, failed candidates last."""
    if metric not in frame:
        frame = frame.assign(**{metric: np.nan})
    ascending = not metrics.is_greater_better(metric)
    ordered = frame.sort_values(metric, ascending=ascending, kind="stable", na_position="last").reset_index(drop=True)
    ordered.insert(0, "rank", range(1, len(ordered) + 1))
    return ordered[[*(name for name in ordered if name != "error"), "error"]]


def fit_model(
    model: str | Pipeline,
    row_features: RowFeatures,
    parts: list[tuple[pd.DataFrame, pd.Series]],
    *,
    target: Target,
    seed: int,
) -> Pipeline:
    """Fit a candidate on parts of the rows and prepend the row features.

    Parameters
    ----------
    model
        Name of a candidate with labkit's own settings, or an unfitted candidate.
    row_features
        Fitted row features.
    parts
        Features and true values of each part, e.g. of the training and the validation rows.

    Returns
    -------
    Pipeline
        Steps `row_features`, `preparation` and `estimator`, from joined raw columns to predictions; with the hashes of
        the rows that it was fitted on, see `labkit.model.evaluation.row_hashes`.
    """
    features = pd.concat([part[0] for part in parts])
    y_true = pd.concat([part[1] for part in parts])
    candidate = make_candidate(model, target, find_kinds(features), seed=seed) if isinstance(model, str) else model
    fitted = fit_candidate(clone(candidate), features, y_true)
    pipeline = Pipeline([("row_features", row_features), *fitted.steps])
    setattr(pipeline, ATTRIBUTE, hash_rows(y_true, target))
    return pipeline
