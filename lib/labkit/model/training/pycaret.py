"""PyCaret as an optional source of candidates."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from labkit.errors import ParamsError
from labkit.model.estimators.candidates import FIXED, N_JOBS, adjust, make_candidate, make_dummy
from labkit.model.estimators.preprocessing import find_kinds, make_preparation, put_behind_preparation
from labkit.params.tables import Target
from labkit.params.training import DUMMY, Training

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
"""PyCaret's name of each model that it has, by task; other models are made by `make_candidate`."""


PYCARET_TARGET = "target"


SAMPLE_ROWS = 50


def make_source(
    features: pd.DataFrame, y_true: pd.Series, *, target: Target, training: Training, seed: int
) -> Callable[[str], Pipeline]:
    """Return a function that makes a candidate from a model's name, with the estimator proposed by the engine.

    The dummy is always the best constant prediction for the metric, whatever the engine, and is never adjusted.

    Raises
    ------
    ParamsError
        The engine is not installed.
    """
    kinds, engine = find_kinds(features), training.engine
    propose = None if engine == "sklearn" else start_pycaret(features, y_true, target=target, seed=seed)

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
    """Return the engine that provides a model's estimator, because PyCaret does not have all models."""
    has_it = target.task in PYCARET_NAMES.get(model, {})
    return engine if engine == "sklearn" or has_it else "sklearn"


def start_pycaret(
    features: pd.DataFrame, y_true: pd.Series, *, target: Target, seed: int
) -> Callable[[str], BaseEstimator]:
    """Return a function that returns an unfitted estimator by its PyCaret name, with labkit's seed and threads."""
    # PyCaret only proposes estimators, because it preprocesses all rows before it splits them for the evaluation. It is
    # given a few rows, and what it fits to them is discarded. ParamsError: PyCaret is not installed.
    sample = make_pycaret_sample(features, y_true, target)
    with undo_side_effects():
        experiment = import_pycaret(target.task)(target=PYCARET_TARGET, session_id=seed, n_jobs=1).fit(sample)
        # Otherwise LightGBM prints a line for every split that it does not find.
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
    """Return PyCaret's experiment class for a task; raise ParamsError if PyCaret is not installed."""
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
    """Prevent PyCaret from writing logs.log to the working directory and from suppressing warnings."""
    os.environ.update(PYCARET_CUSTOM_LOGGING_PATH=os.devnull)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.captureWarnings(False)


def make_pycaret_sample(features: pd.DataFrame, y_true: pd.Series, target: Target) -> pd.DataFrame:
    """Return a few preprocessed rows of each class, or of all rows for regression, with classes encoded as numbers."""
    codes = pd.factorize(y_true, sort=True)[0] if target.task == "classification" else np.zeros(len(y_true), int)
    rows = np.concatenate([np.resize(np.flatnonzero(codes == code), SAMPLE_ROWS) for code in np.unique(codes)])
    outcomes = codes if target.task == "classification" else y_true.to_numpy(dtype="float64")
    preparation = make_preparation(find_kinds(features), is_scaled=False, task=target.task)
    prepared = preparation.fit_transform(features.iloc[rows], outcomes[rows])
    sample = pd.DataFrame(prepared, columns=[f"f{number}" for number in range(prepared.shape[1])])
    return sample.assign(**{PYCARET_TARGET: outcomes[rows]})
