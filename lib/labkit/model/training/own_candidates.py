"""Candidates of the user's own: scikit-learn estimators and pipelines, from a notebook or from a function in `lib/`.

They are compared, tuned, calibrated and released like labkit's. Before a candidate takes time in the folds, it is tried
on a few rows: what cannot be cloned, predicted with or saved is reported at once, in the leaderboard.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from labkit.errors import ModelError, ParamsError, get_first_line, list_briefly
from labkit.model.estimators.candidates import N_JOBS, adjust, find_thread_counts, is_named
from labkit.model.estimators.preprocessing import find_kinds, put_behind_preparation
from labkit.model.release.skops_file import find_untrusted
from labkit.params.import_path import choose_arguments, locate_code, resolve_callable
from labkit.params.tables import Target
from labkit.params.training import MODELS, Training
from labkit.params.trusted_types import PLACE, list_trusted_types, write_import_path

ROWS_OF_TRIAL = 300
"""Rows on which a candidate is tried before it is compared; of classes, as many in all but evenly from each."""

Search = Callable[[Any], Mapping[str, Any]]
"""A function of an Optuna trial that returns values of the estimator's parameters, by their names."""


@dataclass(frozen=True)
class Candidate:
    """A candidate with its options; an estimator alone is one with the defaults.

    Attributes
    ----------
    estimator
        An unfitted scikit-learn estimator or pipeline.
    preparation
        `labkit`: missing values are imputed and categories encoded before the estimator; `own`: it gets the features as
        they are, in a table with missing values and strings.
    search
        Search space of `training.tuning_trials`; without it, the candidate is not tuned.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> Candidate(Ridge(), search=lambda trial: {"alpha": trial.suggest_float("alpha", 0.1, 10)}).preparation
    'labkit'
    """

    estimator: Any
    preparation: Literal["labkit", "own"] = "labkit"
    search: Search | None = None


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
    found: dict[str, Candidate] = {}
    given = [(name, f"candidates[{name!r}]", made) for name, made in named.items()]
    for text in (model for model in training.models if ":" in model):
        where = f"training.models: {text}"
        function = resolve_callable(text, where="training.models")
        made = call_function(function, {"task": target.task, "seed": seed}, where=where)
        given.append((name_own(text), f"{where}: {locate_code(function)}", made))
    for name, where, made in given:
        if not isinstance(name, str) or not name.isidentifier() or name in MODELS or name in found:
            raise ParamsError(f"{where}: a candidate is named {name!r}: use a name of its own, e.g. stack")
        candidate = made if isinstance(made, Candidate) else Candidate(made)
        check_candidate(candidate, target, where=where)
        found[name] = Candidate(fix(candidate.estimator, seed=seed), candidate.preparation, candidate.search)
    return found


def name_own(model: str) -> str:
    """Return the name of a candidate in the leaderboard: that of its function.

    >>> name_own("churn.models:make_stack"), name_own("linear")
    ('make_stack', 'linear')
    """
    return model.rpartition(":")[2]


def call_function(function: Callable[..., Any], offered: Mapping[str, Any], *, where: str) -> Any:
    """Return what a user's function returns, called with the arguments that it names."""
    arguments = choose_arguments(function, offered, where=where)
    try:
        return function(**arguments)
    except Exception as error:  # whatever the user's code raises
        fault = f"{type(error).__name__}: {get_first_line(error)}"
        raise ParamsError(f"{where}: {locate_code(function)}: it raised {fault}: correct it") from error


def check_candidate(candidate: Candidate, target: Target, *, where: str) -> None:
    """Raise ParamsError if a candidate is no estimator for the task, or cannot be cloned."""
    estimator, kind = candidate.estimator, type(candidate.estimator).__name__
    if isinstance(estimator, type):
        raise ParamsError(f"{where}: it is the class {estimator.__name__}: give an instance, {estimator.__name__}()")
    needed = ["fit", "predict", *(["predict_proba"] if target.task == "classification" else [])]
    if missing := [name for name in needed if not callable(getattr(estimator, name, None))]:
        raise ParamsError(f"{where}: {kind} has no {list_briefly(missing)}: give a scikit-learn estimator for it")
    if candidate.preparation not in ("labkit", "own"):
        raise ParamsError(f"{where}: preparation is {candidate.preparation!r}: use 'labkit' or 'own'")
    if candidate.search is not None and not callable(candidate.search):
        raise ParamsError(f"{where}: search is of type {type(candidate.search).__name__}: give a function of a trial")
    try:
        clone(estimator)
    except Exception as error:  # estimators that are not scikit-learn's raise errors of many types
        raise ParamsError(f"{where}: {kind} cannot be cloned: {get_first_line(error)}") from error


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
    if candidate.preparation == "own":
        made = Pipeline([("preparation", "passthrough"), ("estimator", clone(candidate.estimator))])
        training = training.model_copy(update={"most_features": None})
    else:
        kinds = find_kinds(features)
        made = put_behind_preparation(name, clone(candidate.estimator), kinds, task=target.task, seed=seed)
    adjusted = adjust(made, target, training, seed=seed)
    try_candidate(adjusted, features, y_true, target=target, trusted=training.trusted_types)
    return adjusted


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
    predicted = np.asarray(fitted.predict_proba(given[0]) if is_classes else fitted.predict(given[0]))
    if not given[0].equals(few) or not given[1].equals(outcomes):
        raise ModelError("it changes the rows that it is given: work on a copy")
    wanted = (len(few), outcomes.nunique()) if is_classes else (len(few),)
    if predicted.shape != wanted or predicted.dtype.kind not in "fiu":
        raise ModelError(f"its predictions are {predicted.dtype} of shape {predicted.shape}, not numbers of {wanted}")
    if not np.isfinite(predicted).all():
        raise ModelError("some of its predictions are missing or infinite")
    if foreign := find_untrusted(fitted, own=list_trusted_types(trusted)):
        shown = ", ".join(f'"{write_import_path(kind)}"' for kind in foreign)
        raise ModelError(
            f"it cannot be saved: it holds types that are not trusted: add {shown} to {PLACE} if you trust them"
        )
