"""Candidates, how they are compared, and which one is chosen.

Every candidate is a whole pipeline, preparation and estimator, and is cross-validated as one: imputation and encoding
are learnt again in each fold. Row features come before it and are not refitted, because they look at one row at a time
and never at the target. Sole owner of PyCaret, which proposes estimators and does nothing else; what it proposes are
plain scikit-learn and LightGBM estimators, so a model loads and predicts without it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.data.timeline import Timeline
from labkit.errors import ModelError, list_briefly
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import DUMMY as DUMMY
from labkit.model.estimators.candidates import make_candidate as make_candidate
from labkit.model.estimators.preprocessing import find_kinds as find_kinds
from labkit.model.estimators.preprocessing import make_preparation as make_preparation
from labkit.model.evaluation import metrics
from labkit.model.training.cross_validation import (
    choose_rows,
    cross_validate,
    describe_error,
    fit_candidate,
    plan_folds,
)
from labkit.model.training.pycaret import find_engine, make_source
from labkit.model.training.time_budget import Budget
from labkit.params.tables import Target
from labkit.params.training import Training


@dataclass(frozen=True)
class Comparison:
    """What a comparison of candidates gave.

    Attributes
    ----------
    frame
        The leaderboard, best first: `rank`, `model`, `source`, mean and standard deviation of each figure
        over the folds (`mae`, `mae_std`, …), `error` (empty, or why the candidate failed). No times: it is the same
        from run to run.
    seconds
        Fit and score time of each candidate.
    best
        Name of the first candidate that is not the dummy.
    candidates
        The unfitted pipelines by name.
    n_rows
        Rows on which candidates were compared.
    n_folds
        Folds in which each was judged.
    budget
        What is left of it is for tuning.
    """

    frame: pd.DataFrame
    seconds: dict[str, float]
    best: str
    candidates: dict[str, Pipeline]
    n_rows: int
    n_folds: int = 0
    budget: Budget = field(default_factory=Budget)


def compare(
    features: pd.DataFrame,
    y_true: pd.Series,
    *,
    target: Target,
    training: Training,
    seed: int,
    timeline: Timeline | None = None,
    on_candidate: Callable[[str, str], None] = lambda name, result: None,
) -> Comparison:
    """Cross-validate every candidate on the training rows and rank them.

    Parameters
    ----------
    features
        Shape (n_rows, n_features), as `RowFeatures` gives them; in the order of time if there is a `timeline`.
    y_true
        Shape (n_rows,).
    timeline
        When the rows were asked for and their outcomes known, where they have times: see
        `labkit.model.training.cross_validation`.
    on_candidate
        Called after each candidate with its name and its figure or error.

    Raises
    ------
    ParamsError
        The engine is not installed.
    ModelError
        Every candidate failed.
    """
    budget = Budget(training.budget_seconds)
    rows = choose_rows(len(features), training.most_rows, seed=seed, is_ordered=timeline is not None)
    features, y_true = features.iloc[rows], y_true.iloc[rows]
    times = None if timeline is None else timeline.take(rows)
    folds = plan_folds(y_true, target=target, training=training, seed=seed, timeline=times)
    make = make_source(features, y_true, target=target, training=training, seed=seed)
    lines: list[dict[str, Any]] = []
    seconds, candidates = {}, {}
    for model in training.models:
        started = time.monotonic()
        line: dict[str, Any] = {"model": model, "source": find_engine(model, target, training.engine)}
        try:
            # The first candidate that has learnt something is always judged to the end: there must be one to choose.
            limit = budget if any(not one["error"] and one["model"] != DUMMY for one in lines) else None
            if limit is not None:
                limit.check()
            candidates[model] = make(model)
            scores = cross_validate(candidates[model], features, y_true, target=target, folds=folds, budget=limit)
            if np.isnan(scores[training.metric]):
                raise ModelError(f"{training.metric} is not defined on any fold: each holds rows of one class alone")
            line |= {**scores, "error": ""}
            on_candidate(model, f"{training.metric} {scores[training.metric]:.4g}")
        except Exception as error:  # whatever a library raises, the candidate stays in the leaderboard with it
            line["error"] = describe_error(error)
            on_candidate(model, line["error"])
        lines.append(line)
        seconds[model] = time.monotonic() - started
    frame = rank(pd.DataFrame(lines), training.metric)
    return Comparison(frame, seconds, find_best(frame), candidates, len(features), len(folds), budget)


def find_best(frame: pd.DataFrame) -> str:
    """Return the name of the first candidate that is not the dummy.

    Raises
    ------
    ModelError
        There is none.
    """
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
    """Fit a candidate on parts of the rows and put the row features before it.

    Parameters
    ----------
    model
        Name of a candidate with our own settings, or an unfitted candidate.
    row_features
        Fitted.
    parts
        Features and answers, e.g. of training and of validation rows.

    Returns
    -------
    Pipeline
        `row_features`, `preparation`, `estimator`: from joined raw columns to prediction.
    """
    features = pd.concat([part[0] for part in parts])
    y_true = pd.concat([part[1] for part in parts])
    candidate = make_candidate(model, target, find_kinds(features), seed=seed) if isinstance(model, str) else model
    fitted = fit_candidate(clone(candidate), features, y_true)
    return Pipeline([("row_features", row_features), *fitted.steps])
