"""Candidates of our own: estimators with fixed seeds and threads, each behind the preparation that fits it.

Not how they are compared, nor those that PyCaret proposes: that is `labkit.model.automl`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
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
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from labkit.errors import ModelError
from labkit.model.constant import make_constant
from labkit.model.target_scale import OnScale
from labkit.model.transformers import Float32TargetEncoder, RangeClipper
from labkit.params import Target, Training

DUMMY = "dummy"
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
"""What is set on an estimator whatever its source: the same answers on every run, quiet, and no search tree saved."""

MOST_LEAVES = 2000
"""Of a tree whose leaves may hold one row each, as rare far answers need it: a long table makes no huge model."""
Make = Callable[[int], BaseEstimator]
Estimators = dict[str, tuple[Make, Make | None]]
# One line per model: the classifier, the regressor. All seeds and thread counts are fixed.
ESTIMATORS: Estimators = {
    # In a comparison the constant is the best for its metric instead: see `make_dummy`.
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
    # Its output has to stay one array per class for the graph.
    "blend": (
        lambda seed: VotingClassifier(make_members(seed, "classification"), voting="soft", flatten_transform=False),
        lambda seed: VotingRegressor(make_members(seed, "regression")),
    ),
}
BLENDED = ("linear", "extra_trees", "lightgbm")
"""Unlike each other in what they get wrong, so that their mean is seldom far from the best of them and often better."""
FEWEST_ALIKE = 8
MOST_ONE_HOT = 50
"""Categories of a column up to which each becomes a feature of its own; of more, their mean target is the feature."""
SCALED = {"linear", "nearest_neighbours"}


def make_members(seed: int, task: str) -> list[tuple[str, BaseEstimator]]:
    """Return the unfitted estimators whose mean the blend gives, each with the scaling it needs."""
    place = 0 if task == "classification" else 1
    made = {name: make(seed) for name in BLENDED if (make := ESTIMATORS[name][place])}
    scaled = {name: Pipeline([("scale", StandardScaler()), ("model", made[name])]) for name in made if name in SCALED}
    return list({**made, **scaled}.items())


@dataclass(frozen=True)
class AtMost:
    """A number of columns, or all where there are fewer."""

    number: int

    def __call__(self, X: np.ndarray) -> int:
        """Return how many of these columns are kept."""
        return min(self.number, X.shape[1])


def make_lightgbm_options(seed: int) -> dict[str, Any]:
    """Return LightGBM's options: reproducible and quiet."""
    return {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_child_samples": 10,
        "n_jobs": N_JOBS,
        "random_state": seed,
        **LIGHTGBM_FIXED,
    }


def make_preparation(
    kinds: Mapping[str, str],
    *,
    is_scaled: bool,
    is_clipped: bool = False,
    task: str = "classification",
    seed: int = 0,
) -> ColumnTransformer:
    """Return the unfitted preparation: gaps filled, categories encoded, numbers clipped and scaled where needed.

    Parameters
    ----------
    kinds
        Feature name: `number`, `alike` (a number of the one unit of the table), `category` (one-hot) or `many` (the
        mean target of each category, fitted crosswise so that no row sees its own answer).
    is_scaled, is_clipped
        Whether the model adds up numbers of unlike units, and whether it measures distances.
    """
    names = {kind: [name for name, own in kinds.items() if own == kind] for kind in ("category", "many")}
    names["number"] = [name for name, own in kinds.items() if own in ("number", "alike")]
    fill: Any = SimpleImputer(strategy="median", keep_empty_features=True)
    # Rare categories are one already, see RowFeatures: the encoder's own way of joining them does not convert.
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    is_number = task == "regression"
    folds = (KFold if is_number else StratifiedKFold)(5, shuffle=True, random_state=seed)
    average: Any = Float32TargetEncoder(target_type="continuous" if is_number else "auto", cv=folds)
    # Trees are not scaled: it would change nothing but the last digits, and those decide at thresholds in float32.
    changes = [("clip", RangeClipper())] * is_clipped + [("scale", StandardScaler())] * is_scaled
    if changes:
        fill = Pipeline([("fill", fill), *changes])
    if is_scaled:
        average = Pipeline([("average", average), ("scale", StandardScaler())])
    steps = (("numbers", fill, "number"), ("categories", encode, "category"), ("many_categories", average, "many"))
    parts = [(name, step, names[kind]) for name, step, kind in steps if names[kind]]
    return ColumnTransformer(parts, sparse_threshold=0, verbose_feature_names_out=False)


def make_dummy(metric: str, target: Target, kinds: Mapping[str, str], *, seed: int) -> Pipeline:
    """Return the candidate that every other one has to beat: the best constant prediction for the metric."""
    return put_behind_preparation(DUMMY, make_constant(metric, target), kinds, task=target.task, seed=seed)


def make_candidate(model: str, target: Target, kinds: Mapping[str, str], *, seed: int) -> Pipeline:
    """Return one unfitted candidate: preparation, then estimator, with our own settings.

    Raises
    ------
    ModelError
        There is no model of that name for the task.
    """
    make = ESTIMATORS[model][0 if target.task == "classification" else 1]
    if make is None:
        raise ModelError(f"{model} is not for {target.task}")
    return put_behind_preparation(model, make(seed), kinds, task=target.task, seed=seed)


def put_behind_preparation(
    model: str, estimator: BaseEstimator, kinds: Mapping[str, str], *, task: str, seed: int
) -> Pipeline:
    """Return an unfitted estimator behind the preparation that fits its model."""
    # Distances in one unit mean something as they are: scaled one by one, nearly empty columns would count as much.
    is_clipped = model == "nearest_neighbours"
    is_alike = is_clipped and set(kinds.values()) == {"alike"}
    is_scaled = model in SCALED and not is_alike
    preparation = make_preparation(kinds, is_scaled=is_scaled, is_clipped=is_clipped, task=task, seed=seed)
    return Pipeline([("preparation", preparation), ("estimator", estimator)])


def adjust(candidate: Pipeline, target: Target, training: Training, *, seed: int) -> Pipeline:
    """Return a candidate with what the params ask for: class weights, fewer features, another scale of the target.

    An estimator that cannot weigh classes stays as it is.
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


def find_kinds(features: pd.DataFrame) -> dict[str, str]:
    """Return the kind of each feature column: `number`, `category`, or `many` for one of very many categories.

    All are `alike` where all are numbers of one unit.
    """
    numbers = {str(name): pd.api.types.is_numeric_dtype(features[name]) for name in features.columns}
    if all(numbers.values()) and are_alike(features):
        return dict.fromkeys(numbers, "alike")
    return {
        name: "number" if is_number else "many" if features[name].nunique() > MOST_ONE_HOT else "category"
        for name, is_number in numbers.items()
    }


def are_alike(numbers: pd.DataFrame) -> bool:
    """Tell whether numbers seem to be of one unit: most columns, and more than a few, end at the same two values.

    Pixels of a picture do, and answers on one scale.
    """
    bounds = pd.Series(zip(numbers.min(), numbers.max(), strict=True)).value_counts()
    return len(bounds) > 0 and int(bounds.iloc[0]) >= max(FEWEST_ALIKE, numbers.shape[1] / 2)


def set_threads(estimator: Any, number: int) -> None:
    """Let an estimator, and whatever fitted ones it holds, work with so many threads."""
    names = [name for name in estimator.get_params() if name.rpartition("__")[2] == "n_jobs"]
    estimator.set_params(**dict.fromkeys(names, number))
    inner = getattr(estimator, "estimator", estimator)
    if isinstance(inner, VotingClassifier | VotingRegressor):
        inner.set_params(n_jobs=1)  # its members one after another, each with the threads it is given
        for member in getattr(inner, "estimators_", ()):
            set_threads(member, number)
