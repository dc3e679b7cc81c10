"""Candidates of the user's own as the params name them: a function in `lib/` makes each.

They are made and checked before a run starts, without a table; `labkit.model.training.own_candidates` tries them on
rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from labkit.errors import ParamsError, get_first_line, list_briefly
from labkit.params.import_path import choose_arguments, locate_code, resolve_callable
from labkit.params.own_calls import find_own_line, own_code
from labkit.params.tables import Target
from labkit.params.training import MODELS, Training

PLACE = "training.models"

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


def make_declared(
    training: Training, target: Target, *, seed: int, describe: Callable[[int], str] = lambda place: PLACE
) -> Iterator[tuple[str, str, Any]]:
    """Call the functions of `training.models` and yield name, place for messages, and what each returned.

    Parameters
    ----------
    describe
        Gives the place of an entry of `training.models`, by its index.

    Raises
    ------
    ParamsError
        A function cannot be imported or called.
    """
    for index, path in enumerate(training.models):
        if ":" in path:
            function = resolve_callable(path, where=describe(index))
            where = f"{describe(index)}: {path}"
            made = call_function(function, {"task": target.task, "seed": seed}, where=where)
            yield name_own(path), f"{where}: {locate_code(function)}", made


def check_candidates(made: Iterable[tuple[str, str, Any]], target: Target) -> dict[str, Candidate]:
    """Return candidates by name.

    Parameters
    ----------
    made
        Name, place for messages, and an estimator or a candidate.

    Raises
    ------
    ParamsError
        One is no estimator for the task or cannot be cloned, or a name is taken.
    """
    found: dict[str, Candidate] = {}
    for name, where, one in made:
        if not isinstance(name, str) or not name.isidentifier() or name in MODELS or name in found:
            raise ParamsError(f"{where}: a candidate is named {name!r}: use a name of its own, e.g. stack")
        found[name] = one if isinstance(one, Candidate) else Candidate(one)
        check_candidate(found[name], target, where=where)
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
        with own_code():
            return function(**arguments)
    except Exception as error:  # whatever the user's code raises
        fault = f"{type(error).__name__}: {get_first_line(error)}"
        place = find_own_line(error) or locate_code(function)
        raise ParamsError(f"{where}: {place}: it raised {fault}: correct it") from error


def check_candidate(candidate: Candidate, target: Target, *, where: str) -> None:
    """Raise ParamsError if a candidate is no estimator for the task, or cannot be cloned."""
    from sklearn.base import clone  # only with candidates of the user's own, whose module imports it anyway

    estimator, kind = candidate.estimator, type(candidate.estimator).__name__
    if isinstance(estimator, type):
        raise ParamsError(f"{where}: it is the class {estimator.__name__}: give an instance, {estimator.__name__}()")
    needed = ["fit", "predict", *(["predict_proba"] if target.task == "classification" else [])]
    if missing := [name for name in needed if not callable(getattr(estimator, name, None))]:
        raise ParamsError(f"{where}: {kind} has no {list_briefly(missing)}: give a scikit-learn estimator for it")
    other = find_other_kind(estimator) if target.task == "regression" else None
    if other is not None:
        raise ParamsError(f"{where}: {kind} is a {other}, but the target is a number: give a regressor")
    if candidate.preparation not in ("labkit", "own"):
        raise ParamsError(f"{where}: preparation is {candidate.preparation!r}: use 'labkit' or 'own'")
    if candidate.search is not None and not callable(candidate.search):
        raise ParamsError(f"{where}: search is of type {type(candidate.search).__name__}: give a function of a trial")
    try:
        with own_code():
            clone(estimator)
    except Exception as error:  # estimators that are not scikit-learn's raise errors of many types
        at = f", at {own}" if (own := find_own_line(error)) else ""
        raise ParamsError(f"{where}: {kind} cannot be cloned: {get_first_line(error)}{at}") from error


def find_other_kind(estimator: Any) -> str | None:
    """Return what an estimator is by its tags if that is no regressor, e.g. `classifier`; None if it may be one."""
    from sklearn.utils import get_tags

    try:
        kind = get_tags(estimator).estimator_type
    except Exception:  # estimators that are not derived from scikit-learn's have no tags
        return None
    return None if kind in (None, "regressor") else str(kind).replace("_", " ")
