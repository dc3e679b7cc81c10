"""Candidates of the user's own: scikit-learn estimators and pipelines, from a notebook or from a function in `lib/`.

They are compared, tuned, calibrated and released like labkit's. Before a candidate takes time in the folds, it is tried
on a few rows: what cannot be cloned, predicted with or saved is reported at once, in the leaderboard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.errors import ModelError
from labkit.model.estimators.candidates import N_JOBS, adjust, find_thread_counts, is_named
from labkit.model.estimators.class_codes import number_classes
from labkit.model.estimators.preprocessing import find_kinds, put_behind_preparation
from labkit.model.evaluation.predictions import check_output
from labkit.model.release.skops_file import find_untrusted
from labkit.params.import_path import locate_code, resolve_callable
from labkit.params.own_calls import find_own_line, own_code
from labkit.params.own_candidates import Candidate, check_candidates, make_declared, name_own
from labkit.params.tables import Target
from labkit.params.training import Training
from labkit.params.trusted_types import describe_untrusted, list_trusted_types

FEWEST_SAME = 0.9
"""Fraction of predictions that other rows may not change; the rest may be ties that rounding decides."""
ROWS_OF_TRIAL = 300
"""Rows on which a candidate is tried before it is compared; of classes, as many in all but evenly from each."""


def collect_own(named: Mapping[str, Any], training: Training, target: Target, *, seed: int) -> dict[str, Candidate]:
    """Return the candidates of a notebook and of `training.models`, by name.

    Parameters
    ----------
    named
        Estimators or candidates by name, as the notebook gives them.

    Raises
    ------
    ParamsError
        A function cannot be imported or called, what it returns is no estimator, or a name is taken.
    """
    given = ((name, f"candidates[{name!r}]", made) for name, made in named.items())
    found = check_candidates(chain(given, make_declared(training, target, seed=seed)), target)
    return {name: replace(one, estimator=fix(one.estimator, seed=seed)) for name, one in found.items()}


def fix(estimator: Any, *, seed: int) -> Any:
    """Return a copy with labkit's seed wherever none is given, and with its threads in place of all threads."""
    fixed, settings = clone(estimator), estimator.get_params()
    seeds = {name: seed for name, value in settings.items() if is_named(name, "random_state") and value is None}
    threads = {name: N_JOBS for name, count in find_thread_counts(estimator).items() if count in (None, -1)}
    return fixed.set_params(**seeds, **threads)


def make_own(
    name: str,
    candidate: Candidate,
    features: pd.DataFrame,
    y_true: pd.Series,
    *,
    target: Target,
    training: Training,
    seed: int,
) -> Pipeline:
    """Return the unfitted pipeline of a candidate, after a trial on a few rows.

    Raises
    ------
    ModelError
        It fails on them, changes its input, predicts something else than it should, or cannot be saved.
    """
    estimator = number_classes(clone(candidate.estimator))
    if candidate.preparation == "own":
        made = Pipeline([("preparation", "passthrough"), ("estimator", estimator)])
        training = training.model_copy(update={"most_features": None})
    else:
        kinds = find_kinds(features)
        made = put_behind_preparation(name, estimator, kinds, task=target.task, seed=seed)
    adjusted = adjust(made, target, training, seed=seed)
    try:
        with own_code():
            try_candidate(adjusted, features, y_true, target=target, trusted=training.trusted_types)
    except Exception as error:  # whatever the user's code or a library raises
        if (place := locate_candidate(name, training)) and find_own_line(error) is None:
            error.add_note(f"made at {place}")
        raise
    return adjusted


def locate_candidate(name: str, training: Training) -> str | None:
    """Return file and line of the function that makes a candidate; None for one of a notebook."""
    path = next((one for one in training.models if ":" in one and name_own(one) == name), None)
    return locate_code(resolve_callable(path, where="training.models")) if path else None


def try_candidate(
    candidate: Pipeline, features: pd.DataFrame, y_true: pd.Series, *, target: Target, trusted: Sequence[str] = ()
) -> None:
    """Fit a candidate to a few rows, predict them, and check whether labkit can save and load it."""
    is_classes = target.task == "classification"
    each = max(ROWS_OF_TRIAL // max(y_true.nunique(), 1), 10) if is_classes else ROWS_OF_TRIAL
    numbered = y_true.reset_index(drop=True)
    rows = (numbered.groupby(numbered, sort=False).head(each) if is_classes else numbered.head(each)).index
    few, outcomes = features.iloc[rows], y_true.iloc[rows]
    given = few.copy(deep=True), outcomes.copy(deep=True)
    fitted = clone(candidate).fit(*given)
    predict = fitted.predict_proba if is_classes else fitted.predict
    predicted = np.asarray(predict(given[0]))
    if not given[0].equals(few) or not given[1].equals(outcomes):
        raise ModelError("it changes the rows that it is given: work on a copy")
    wanted = (len(few), outcomes.nunique()) if is_classes else (len(few),)
    check_output(predicted, wanted)
    again = check_output(predict(few.iloc[::-2]), (len(few.iloc[::-2]), *wanted[1:]))
    is_same = np.isclose(predicted[::-2], again, rtol=1e-6, atol=1e-9 * max(1.0, float(np.abs(predicted).max())))
    if is_same.mean() < FEWEST_SAME:
        raise ModelError(
            "it predicts other values for the same rows without the other rows: it is random, or looks at other rows"
        )
    if foreign := find_untrusted(fitted, own=list_trusted_types(trusted)):
        raise ModelError(f"it cannot be saved: {describe_untrusted(foreign)}")
