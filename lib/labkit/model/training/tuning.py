"""Hyperparameter tuning of the best candidate, on the folds in which it was ranked.

No other module uses Optuna. The first trial is the unchanged candidate, so tuning never makes the result worse.
Unpromising trials are pruned from the first fold on.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from labkit.data.timeline import Timeline
from labkit.model.estimators.target_transform import find_core
from labkit.model.evaluation import metrics
from labkit.model.training.comparison import Comparison
from labkit.model.training.cross_validation import (
    FitFailedError,
    choose_rows,
    describe_error,
    plan_folds,
    summarise_folds,
)
from labkit.model.training.fit_processes import FoldScore, Rows, count_processes, open_fits
from labkit.model.training.time_budget import Budget
from labkit.params.own_calls import own_code
from labkit.params.own_candidates import Search
from labkit.params.tables import Target
from labkit.params.training import DUMMY, Training
from labkit.units import format_count

Setting = bool | int | float | str
N_RANDOM = 10
"""Trials that are drawn at random, before others are proposed from their results: Optuna's default."""


Space = Mapping[str, IntDistribution | FloatDistribution | CategoricalDistribution]
FOREST: Space = {
    "min_samples_leaf": IntDistribution(1, 50, log=True),
    "max_features": CategoricalDistribution(("sqrt", 0.3, 0.6, 1.0)),
}
SEARCH_SPACES: dict[str, Space] = {
    "lightgbm": {
        "n_estimators": IntDistribution(50, 400, log=True),
        "learning_rate": FloatDistribution(0.01, 0.3, log=True),
        "num_leaves": IntDistribution(7, 63, log=True),
        "min_child_samples": IntDistribution(5, 200, log=True),
        "colsample_bytree": FloatDistribution(0.4, 1.0),
        "reg_lambda": FloatDistribution(0.0, 10.0),
    },
    "hist_gradient_boosting": {
        "max_iter": IntDistribution(50, 300, log=True),
        "learning_rate": FloatDistribution(0.02, 0.3, log=True),
        "max_leaf_nodes": IntDistribution(7, 63, log=True),
        "min_samples_leaf": IntDistribution(5, 200, log=True),
        "l2_regularization": FloatDistribution(0.0, 10.0),
    },
    "random_forest": FOREST,
    "extra_trees": FOREST,
    "linear": {"C": FloatDistribution(1e-3, 1e2, log=True), "alpha": FloatDistribution(1e-3, 1e3, log=True)},
    "gradient_boosting": {
        "n_estimators": IntDistribution(50, 200, log=True),
        "learning_rate": FloatDistribution(0.02, 0.3, log=True),
        "max_depth": IntDistribution(2, 5),
        "subsample": FloatDistribution(0.5, 1.0),
    },
}
"""Search space of each model; hyperparameters that an estimator does not have are ignored."""


@dataclass(frozen=True)
class Tuning:
    """Results of the trials.

    Attributes
    ----------
    frame
        One row per trial: `trial`, `state` (complete, pruned, failed), number of `folds` evaluated, the metric and its
        standard deviation over them, `best` so far, each hyperparameter, `error`. It contains no times.
    best
        Number of the trial with the best metric; 0 is the unchanged candidate.
    candidate
        Unfitted candidate with the best trial's hyperparameters.
    settings
        Hyperparameters of the best trial.
    seconds
        Duration of each trial, in seconds.
    by_fold
        The metric of each trial in the folds in which it was evaluated.
    """

    model: str
    frame: pd.DataFrame
    best: int
    candidate: Pipeline
    settings: dict[str, Setting]
    seconds: list[float]
    by_fold: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Proposal:
    """A trial to evaluate.

    Attributes
    ----------
    candidate
        Unfitted candidate with the proposed hyperparameters.
    settings
        The hyperparameters of the search space as the candidate has them.
    error
        Why they cannot be set; empty if they can.
    """

    trial: optuna.Trial
    candidate: Pipeline
    settings: dict[str, Any]
    error: str = ""


def find_tunable(comparison: Comparison) -> str | None:
    """Return the best candidate that has a search space; None if there is no such candidate."""
    board = comparison.frame
    names = board.loc[(board["error"] == "") & (board["model"] != DUMMY), "model"]
    return next((str(name) for name in names if name in SEARCH_SPACES or name in comparison.searches), None)


def tune(
    comparison: Comparison,
    features: pd.DataFrame,
    y_true: pd.Series,
    *,
    target: Target,
    training: Training,
    seed: int,
    timeline: Timeline | None = None,
    on_trial: Callable[[int, str], None] = lambda trial, result: None,
) -> Tuning:
    """Search the hyperparameters of the best candidate that has a search space, on the folds of the comparison.

    Parameters
    ----------
    features, y_true, timeline
        The same as for `labkit.model.training.comparison.compare`.
    on_trial
        Called after each trial with its number and its metric or error.

    Returns
    -------
    Tuning
        The best candidate unchanged and no trials, if no trials are requested, no candidate can be tuned, or the time
        budget is used up.
    """
    model = find_tunable(comparison)
    if model is None or not training.tuning_trials or comparison.budget.is_used_up:
        names = ["trial", "state", "folds", training.metric, f"{training.metric}_std", "best", "error"]
        frame = pd.DataFrame(columns=names, dtype="float64")
        return Tuning(comparison.best, frame, 0, comparison.candidates[comparison.best], {}, [])
    rows = choose_rows(len(features), training.most_rows, seed=seed, is_ordered=timeline is not None)
    features, y_true = features.iloc[rows], y_true.iloc[rows]
    times = None if timeline is None else timeline.take(rows)
    folds = plan_folds(y_true, target=target, training=training, seed=seed, timeline=times)
    candidate = comparison.candidates[model]
    search = comparison.searches.get(model)
    space = {} if search else make_space(model, find_core(candidate[-1]))
    study = make_study(training.metric, seed)
    is_alone = search is not None or training.budget_seconds is not None
    n_processes = 1 if is_alone else count_processes(len(features))
    proposals, lines, seconds, by_fold = list[Proposal](), [], [], []
    with open_fits(Rows(features, y_true, target, folds), n_processes=n_processes) as fits:
        for number in range(training.tuning_trials):
            # Trial 0 always runs, because the others are compared with it.
            if number and comparison.budget.is_used_up:
                break
            # The first trials do not depend on the results of others, so they may all be evaluated side by side.
            n_proposed = number + 1 if n_processes == 1 else min(max(number + 1, N_RANDOM), training.tuning_trials)
            for other in range(len(proposals), n_proposed):
                proposals.append(propose(study, candidate, space, search, is_first=other == 0))
                if other and not proposals[-1].error:
                    fits.plan(other, partial(clone, proposals[-1].candidate))
            scores = fits.list_scores(number) if number else list_known_scores(comparison, model, training.metric)
            budget = comparison.budget if number else Budget()
            line = evaluate_trial(study, proposals[number], scores, len(folds), metric=training.metric, budget=budget)
            by_fold.append(np.array(line.pop("by_fold")))
            seconds.append(line.pop("seconds"))
            lines.append({"trial": number, **line, **proposals[number].settings})
            in_folds = f" after {format_count(line['folds'], 'fold')}" if line["state"] == "pruned" else ""
            result = f"{training.metric} {line[training.metric]:.4g} ({line['state']}{in_folds})"
            on_trial(number, line["error"] or result)
    frame = add_best(pd.DataFrame(lines), training.metric)
    best = int(frame["best_trial"].iloc[-1])
    chosen = clone(candidate)
    find_core(chosen[-1]).set_params(**proposals[best].settings)
    frame = frame.drop(columns="best_trial")
    return Tuning(model, frame, best, chosen, proposals[best].settings, seconds, by_fold)


def make_space(model: str, estimator: BaseEstimator) -> Space:
    """Return the part of a model's search space for which this estimator has hyperparameters."""
    known = estimator.get_params()
    return {name: part for name, part in SEARCH_SPACES[model].items() if name in known}


def make_study(metric: str, seed: int) -> optuna.Study:
    """Return a seeded in-memory study that prunes trials worse than the median, from the first fold on."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            direction="maximize" if metrics.is_greater_better(metric) else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_RANDOM),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
        )
    finally:
        optuna.logging.set_verbosity(before)


def ask(study: optuna.Study, estimator: BaseEstimator, space: Space, *, is_first: bool) -> optuna.Trial:
    """Return the next trial; the first has the estimator's own hyperparameters, as far as the space contains them."""
    if is_first:
        own = estimator.get_params()
        study.enqueue_trial({name: own[name] for name, part in space.items() if contains(part, own[name])})
    return study.ask(dict(space))


def contains(part: IntDistribution | FloatDistribution | CategoricalDistribution, value: object) -> bool:
    """Return whether a distribution can give a value."""
    if isinstance(part, CategoricalDistribution):
        return value in part.choices
    return isinstance(value, int | float) and part.low <= value <= part.high


def propose(
    study: optuna.Study,
    candidate: Pipeline,
    space: Space,
    search: Search | None,
    *,
    is_first: bool,
) -> Proposal:
    """Return the next trial and the candidate with its hyperparameters, or why they cannot be set."""
    trial = ask(study, find_core(candidate[-1]), space, is_first=is_first)
    tried: Pipeline = clone(candidate)
    core, error = find_core(tried[-1]), ""
    try:
        with own_code():
            settings = {} if is_first else dict(search(trial)) if search else trial.params
            core.set_params(**settings)
    except Exception as failure:  # of the user's search space
        settings, error = {}, describe_error(failure)
    own = core.get_params()
    return Proposal(trial, tried, settings if search else {name: own[name] for name in space}, error)


def list_known_scores(comparison: Comparison, model: str, metric: str) -> Generator[FoldScore, None, None]:
    """Yield the results of the candidate as it is, which are known from the comparison, fold by fold."""
    values = comparison.by_fold[model].tolist()
    for value in values:
        yield FoldScore({metric: value}, comparison.seconds[model] / len(values))


def evaluate_trial(
    study: optuna.Study,
    proposal: Proposal,
    scores: Generator[FoldScore, None, None],
    n_folds: int,
    *,
    metric: str,
    budget: Budget,
) -> dict[str, Any]:
    """Report the results of a trial to the study, fold by fold until it is pruned, and return the trial's row."""
    trial, found, seconds = proposal.trial, list[FoldScore](), 0.0
    state = optuna.trial.TrialState.COMPLETE
    try:
        if proposal.error:
            raise FitFailedError(proposal.error)
        with closing(scores):
            for score in scores:
                seconds += score.seconds
                score.check()
                found.append(score)
                trial.report(score.metrics[metric], len(found) - 1)
                if len(found) < n_folds:
                    budget.check()
                if len(found) < n_folds and trial.should_prune():
                    state = optuna.trial.TrialState.PRUNED
                    break
    except Exception as error:  # whatever a library raises is recorded with the trial
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return describe_failed(metric, len(found), error) | {"seconds": seconds}
    summary = summarise_folds([score.metrics for score in found])
    is_complete = state == optuna.trial.TrialState.COMPLETE
    study.tell(trial, summary[metric] if is_complete else None, state=state)
    means = {name: summary[name] for name in (metric, f"{metric}_std")}
    by_fold = [score.metrics[metric] for score in found]
    ended = {"state": state.name.lower(), "folds": len(found), **means, "error": ""}
    return ended | {"by_fold": by_fold, "seconds": seconds}


def describe_failed(metric: str, n_folds: int, error: Exception) -> dict[str, Any]:
    """Return the row of a trial that failed after some folds."""
    unknown = {metric: np.nan, f"{metric}_std": np.nan}
    return {"state": "failed", "folds": n_folds, **unknown, "error": describe_error(error), "by_fold": []}


def add_best(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the trials with the best metric of all complete trials so far, `best`, and its trial, `best_trial`."""
    sign = 1 if metrics.is_greater_better(metric) else -1
    best, best_trial, bests, holders = -np.inf, 0, [], []
    for number, (state, value) in enumerate(zip(frame["state"], frame[metric], strict=True)):
        if state == "complete" and sign * value > best:
            best, best_trial = sign * value, number
        bests.append(sign * best if np.isfinite(best) else np.nan)
        holders.append(best_trial)
    error = frame.pop("error")
    strings = {str(name): values.map(str) for name, values in frame.items() if values.dtype == object}
    return frame.assign(**strings, best=bests, best_trial=holders, error=error)
