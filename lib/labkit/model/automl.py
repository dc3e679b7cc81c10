"""Candidates, how they are compared, and which one is chosen.

Every candidate is a whole pipeline, preparation and estimator, and is cross-validated as one: imputation and encoding
are learnt anew in each fold. Row features come before it and are not refitted, because they look at one row at a time
and never at the target. Sole owner of PyCaret, which proposes estimators and does nothing else; what it proposes are
plain scikit-learn and LightGBM estimators, so a model loads and predicts without it.
"""

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from labkit.data.features import RowFeatures
from labkit.data.timeline import Timeline
from labkit.errors import ModelError, ParamsError, list_briefly
from labkit.model import metrics
from labkit.model.budget import Budget
from labkit.model.candidates import DUMMY as DUMMY
from labkit.model.candidates import FIXED, N_JOBS, adjust, make_dummy, put_behind_preparation
from labkit.model.candidates import find_kinds as find_kinds
from labkit.model.candidates import make_candidate as make_candidate
from labkit.model.candidates import make_preparation as make_preparation
from labkit.model.folds import choose_rows, cross_validate, describe_error, fit_candidate, plan_folds
from labkit.params import Target, Training

PYCARET_NAMES = {
    "linear": {"classification": "lr", "regression": "ridge"},
    "random_forest": {"classification": "rf", "regression": "rf"},
    "extra_trees": {"classification": "et", "regression": "et"},
    "lightgbm": {"classification": "lightgbm", "regression": "lightgbm"},
    "decision_tree": {"classification": "dt", "regression": "dt"},
    "naive_bayes": {"classification": "nb"},
    "ada_boost": {"classification": "ada", "regression": "ada"},
    "gradient_boosting": {"classification": "gbc", "regression": "gbr"},
    "nearest_neighbours": {"classification": "knn", "regression": "knn"},
}
"""PyCaret's name of each model it has, by task; the others come from the list above."""
PYCARET_TARGET = "target"
SAMPLE_ROWS = 50


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
    truth: pd.Series,
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
    truth
        Shape (n_rows,).
    timeline
        When the rows were asked for and their outcomes known, where they have times: see `labkit.model.folds`.
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
    features, truth = features.iloc[rows], truth.iloc[rows]
    times = None if timeline is None else timeline.take(rows)
    folds = plan_folds(truth, target=target, training=training, seed=seed, timeline=times)
    make = make_source(features, truth, target=target, training=training, seed=seed)
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
            scores = cross_validate(candidates[model], features, truth, target=target, folds=folds, budget=limit)
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


def make_source(
    features: pd.DataFrame, truth: pd.Series, *, target: Target, training: Training, seed: int
) -> Callable[[str], Pipeline]:
    """Return what makes a candidate of a model's name, with estimators as the engine proposes them.

    The dummy is always the best constant prediction for the metric, and stays as it is.

    Raises
    ------
    ParamsError
        The engine is not installed.
    """
    kinds, engine = find_kinds(features), training.engine
    propose = None if engine == "sklearn" else start_pycaret(features, truth, target=target, seed=seed)

    def make(model: str) -> Pipeline:
        if model == DUMMY:
            return make_dummy(training.metric, target, kinds, seed=seed)
        if propose is None or find_engine(model, target, engine) == "sklearn":
            candidate = make_candidate(model, target, kinds, seed=seed)
        else:
            estimator = propose(PYCARET_NAMES[model][target.task])
            candidate = put_behind_preparation(model, estimator, kinds, task=target.task, seed=seed)
        return adjust(candidate, target, training, seed=seed)

    return make


def find_engine(model: str, target: Target, engine: str) -> str:
    """Return where a model's estimator comes from: PyCaret does not have all of them."""
    has_it = target.task in PYCARET_NAMES.get(model, {})
    return engine if engine == "sklearn" or has_it else "sklearn"


def start_pycaret(
    features: pd.DataFrame, truth: pd.Series, *, target: Target, seed: int
) -> Callable[[str], BaseEstimator]:
    """Return what asks PyCaret for an estimator by PyCaret's name for it, unfitted and with our seed and threads.

    PyCaret proposes estimators and does nothing else: it prepares and judges on rows that it has looked at as a
    whole. So it is shown a few rows, and what it fitted to them is thrown away.

    Raises
    ------
    ParamsError
        PyCaret is not installed.
    """
    sample = make_pycaret_sample(features, truth, target)
    with undo_side_effects():
        experiment = import_pycaret(target.task)(target=PYCARET_TARGET, session_id=seed, n_jobs=1).fit(sample)
        # LightGBM otherwise prints a line for every split that is not found.
        experiment.get_config("model_registry")["lightgbm"].args["verbosity"] = -1

    def propose(name: str) -> BaseEstimator:
        with undo_side_effects():
            fitted = experiment.create_model(name, cross_validation=False).pipeline
        estimator = clone(fitted[-1])
        known, general = estimator.get_params(), {"n_jobs": N_JOBS, "random_state": seed}
        fixed = {name: value for name, value in general.items() if name in known}
        return estimator.set_params(**{**fixed, **FIXED.get(type(estimator).__name__, {})})

    return propose


def import_pycaret(task: str) -> Any:
    """Return PyCaret's experiment class for a task.

    Raises
    ------
    ParamsError
        It is not installed.
    """
    try:
        if task == "classification":
            from pycaret.classification import ClassificationExperiment as Experiment
        else:
            from pycaret.regression import RegressionExperiment as Experiment
    except ImportError as error:
        raise ParamsError(
            f"training.engine: pycaret cannot be imported ({error}): install it with "
            "`pip install 'labkit[pycaret]'`, or set training.engine: sklearn"
        ) from error
    return Experiment


@contextmanager
def undo_side_effects() -> Iterator[None]:
    """Keep PyCaret from writing logs.log into the working folder and from swallowing warnings."""
    os.environ.update(PYCARET_CUSTOM_LOGGING_PATH=os.devnull)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.captureWarnings(False)


def make_pycaret_sample(features: pd.DataFrame, truth: pd.Series, target: Target) -> pd.DataFrame:
    """Return a few prepared rows of each class, or of all rows, as numbers with codes for classes."""
    codes = pd.factorize(truth, sort=True)[0] if target.task == "classification" else np.zeros(len(truth), int)
    rows = np.concatenate([np.resize(np.flatnonzero(codes == code), SAMPLE_ROWS) for code in np.unique(codes)])
    answers = codes if target.task == "classification" else truth.to_numpy(dtype="float64")
    preparation = make_preparation(find_kinds(features), is_scaled=False, task=target.task)
    prepared = preparation.fit_transform(features.iloc[rows], answers[rows])
    sample = pd.DataFrame(prepared, columns=[f"f{number}" for number in range(prepared.shape[1])])
    return sample.assign(**{PYCARET_TARGET: answers[rows]})


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
    truth = pd.concat([part[1] for part in parts])
    candidate = make_candidate(model, target, find_kinds(features), seed=seed) if isinstance(model, str) else model
    fitted = fit_candidate(clone(candidate), features, truth)
    return Pipeline([("row_features", row_features), *fitted.steps])
