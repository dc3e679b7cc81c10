"""labkit's own candidates: estimators with fixed seeds and thread counts, each behind suitable preprocessing.

See `labkit.model.training.comparison` for how they are compared, and `labkit.model.training.pycaret` for the
candidates that PyCaret proposes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from labkit.errors import ModelError
from labkit.model.estimators.constant import make_constant
from labkit.model.estimators.preprocessing import SCALED, AtMost, put_behind_preparation
from labkit.model.estimators.target_transform import OnScale
from labkit.params.tables import Target
from labkit.params.training import DUMMY, Training

N_JOBS = 2


LIGHTGBM_FIXED = {"deterministic": True, "force_row_wise": True, "verbosity": -1}


NEIGHBOURS_FIXED = {"algorithm": "brute"}


FIXED: dict[str, dict[str, Any]] = {
    "LGBMClassifier": LIGHTGBM_FIXED,
    "LGBMRegressor": LIGHTGBM_FIXED,
    "LogisticRegression": {"n_jobs": None},
    "LinearRegression": {"n_jobs": None},
    "KNeighborsClassifier": NEIGHBOURS_FIXED,
    "KNeighborsRegressor": NEIGHBOURS_FIXED,
}
"""Settings of an estimator whatever its source: reproducible predictions, no output, and no search tree saved."""


MOST_LEAVES = 2000
"""Maximum leaves of a tree whose leaves may hold a single row, as rare extreme targets require.

It keeps a model that was fitted on many rows from becoming huge.
"""


Make = Callable[[int], BaseEstimator]


Estimators = dict[str, tuple[Make, Make | None]]


# One entry per model: the classifier and the regressor. All seeds and thread counts are fixed.
ESTIMATORS: Estimators = {
    # A comparison uses the best constant prediction for its metric instead; see `make_dummy`.
    DUMMY: (lambda seed: DummyClassifier(strategy="prior"), lambda seed: DummyRegressor(strategy="mean")),
    "linear": (lambda seed: LogisticRegression(max_iter=2000), lambda seed: Ridge(alpha=1.0)),
    "random_forest": (
        lambda seed: RandomForestClassifier(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
        lambda seed: RandomForestRegressor(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
    ),
    "extra_trees": (
        lambda seed: ExtraTreesClassifier(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
        lambda seed: ExtraTreesRegressor(300, max_leaf_nodes=MOST_LEAVES, n_jobs=N_JOBS, random_state=seed),
    ),
    "hist_gradient_boosting": (
        lambda seed: HistGradientBoostingClassifier(learning_rate=0.05, random_state=seed),
        lambda seed: HistGradientBoostingRegressor(learning_rate=0.05, random_state=seed),
    ),
    "lightgbm": (
        lambda seed: LGBMClassifier(**make_lightgbm_options(seed)),
        lambda seed: LGBMRegressor(**make_lightgbm_options(seed)),
    ),
    "decision_tree": (
        lambda seed: DecisionTreeClassifier(min_samples_leaf=20, random_state=seed),
        lambda seed: DecisionTreeRegressor(min_samples_leaf=20, random_state=seed),
    ),
    "naive_bayes": (lambda seed: GaussianNB(), None),
    "ada_boost": (
        lambda seed: AdaBoostClassifier(random_state=seed),
        lambda seed: AdaBoostRegressor(random_state=seed),
    ),
    "gradient_boosting": (
        lambda seed: GradientBoostingClassifier(max_features="sqrt", random_state=seed),
        lambda seed: GradientBoostingRegressor(max_features="sqrt", random_state=seed),
    ),
    "nearest_neighbours": (
        lambda seed: KNeighborsClassifier(5, **NEIGHBOURS_FIXED, n_jobs=N_JOBS),
        lambda seed: KNeighborsRegressor(5, **NEIGHBOURS_FIXED, n_jobs=N_JOBS),
    ),
    # For the ONNX graph, the output has to stay one array per class.
    "blend": (
        lambda seed: VotingClassifier(make_members(seed, "classification"), voting="soft", flatten_transform=False),
        lambda seed: VotingRegressor(make_members(seed, "regression")),
    ),
}


BLENDED = ("linear", "extra_trees", "lightgbm")
"""Models whose errors differ, so that their mean is rarely much worse than the best of them and often better."""


def make_members(seed: int, task: str) -> list[tuple[str, BaseEstimator]]:
    """Return the unfitted estimators whose predictions the blend averages, each with the scaling it needs."""
    place = 0 if task == "classification" else 1
    made = {name: make(seed) for name in BLENDED if (make := ESTIMATORS[name][place])}
    scaled = {name: Pipeline([("scale", StandardScaler()), ("model", made[name])]) for name in made if name in SCALED}
    return list({**made, **scaled}.items())


def make_lightgbm_options(seed: int) -> dict[str, Any]:
    """Return options that make LightGBM reproducible and silent."""
    return {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_child_samples": 10,
        "n_jobs": N_JOBS,
        "random_state": seed,
        **LIGHTGBM_FIXED,
    }


def make_dummy(metric: str, target: Target, kinds: Mapping[str, str], *, seed: int) -> Pipeline:
    """Return the candidate that all others have to beat: the best constant prediction for the metric."""
    return put_behind_preparation(DUMMY, make_constant(metric, target), kinds, task=target.task, seed=seed)


def make_candidate(model: str, target: Target, kinds: Mapping[str, str], *, seed: int) -> Pipeline:
    """Return an unfitted candidate with labkit's own settings: preprocessing followed by an estimator.

    Raises
    ------
    ModelError
        The model does not support the task.
    """
    make = ESTIMATORS[model][0 if target.task == "classification" else 1]
    if make is None:
        raise ModelError(f"{model} is not for {target.task}")
    return put_behind_preparation(model, make(seed), kinds, task=target.task, seed=seed)


def adjust(candidate: Pipeline, target: Target, training: Training, *, seed: int) -> Pipeline:
    """Return a candidate adjusted as the params specify: class weights, feature selection, target transform.

    Class weights are ignored by an estimator that does not support them.
    """
    preparation, estimator = candidate[0], candidate[-1]
    if training.class_weight != "none":
        weights = [name for name in estimator.get_params() if name.rpartition("__")[2] == "class_weight"]
        estimator.set_params(**dict.fromkeys(weights, training.class_weight))
    if training.most_features is not None:
        forest = (ExtraTreesClassifier if target.task == "classification" else ExtraTreesRegressor)(
            100, min_samples_leaf=5, max_features="sqrt", random_state=seed
        )
        select = SelectFromModel(forest, threshold=-np.inf, max_features=AtMost(training.most_features))
        preparation = Pipeline([("columns", preparation), ("select", select)])
    if training.target_transform != "none":
        estimator = OnScale(estimator, training.target_transform)
    return Pipeline([("preparation", preparation), ("estimator", estimator)])


def find_thread_counts(estimator: Any) -> dict[str, int | None]:
    """Return the numbers of threads of an estimator and of those inside it, by parameter; None means all cores.

    Estimators of scikit-learn without a number have one thread, and some warn if they are given any: they are left out.

    >>> find_thread_counts(LGBMRegressor()), find_thread_counts(LogisticRegression())
    ({'n_jobs': None}, {})
    """
    settings = estimator.get_params()
    owners = {name: settings.get(name.rpartition("__")[0], estimator) for name in settings if is_named(name, "n_jobs")}
    return {
        name: settings[name]
        for name, owner in owners.items()
        if settings[name] is not None or not type(owner).__init__.__module__.startswith("sklearn.")
    }


def is_named(parameter: str, word: str) -> bool:
    """Return whether a parameter, or one of an estimator within, has that name."""
    return parameter.rpartition("__")[2] == word


def set_threads(estimator: Any, number: int) -> None:
    """Set the number of threads of an estimator and of the fitted estimators inside it."""
    if names := find_thread_counts(estimator):  # a fitted estimator of CatBoost refuses to set anything
        estimator.set_params(**dict.fromkeys(names, number))
    inner = getattr(estimator, "estimator", estimator)
    if isinstance(inner, VotingClassifier | VotingRegressor):
        inner.set_params(n_jobs=1)  # members run one after another, each with its own threads
        for member in getattr(inner, "estimators_", ()):
            set_threads(member, number)
