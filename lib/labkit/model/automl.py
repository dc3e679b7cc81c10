"""Candidates, how they are compared, and which one is chosen.

Every candidate is a whole pipeline, preparation and estimator, and is cross-validated as one: imputation and encoding
are learnt anew in each fold. Row features come before it and are not refitted, because they look at one row at a time
and never at the target.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from labkit.data.features import RowFeatures
from labkit.errors import ModelError, list_briefly
from labkit.model import metrics
from labkit.params import Target, Training

DUMMY = "dummy"
N_JOBS = 2

Estimators = dict[str, tuple[Callable[..., BaseEstimator], Callable[..., BaseEstimator]]]
# One line per model: the classifier, the regressor. All seeds and thread counts are fixed.
ESTIMATORS: Estimators = {
    DUMMY: (lambda seed: DummyClassifier(strategy="prior"), lambda seed: DummyRegressor(strategy="mean")),
    "linear": (lambda seed: LogisticRegression(max_iter=2000), lambda seed: Ridge(alpha=1.0)),
    "random_forest": (
        lambda seed: RandomForestClassifier(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
        lambda seed: RandomForestRegressor(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
    ),
    "extra_trees": (
        lambda seed: ExtraTreesClassifier(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
        lambda seed: ExtraTreesRegressor(300, min_samples_leaf=2, n_jobs=N_JOBS, random_state=seed),
    ),
    "hist_gradient_boosting": (
        lambda seed: HistGradientBoostingClassifier(learning_rate=0.05, random_state=seed),
        lambda seed: HistGradientBoostingRegressor(learning_rate=0.05, random_state=seed),
    ),
    "lightgbm": (
        lambda seed: LGBMClassifier(**make_lightgbm_options(seed)),
        lambda seed: LGBMRegressor(**make_lightgbm_options(seed)),
    ),
}
SCALED = {"linear"}


def make_lightgbm_options(seed: int) -> dict[str, Any]:
    """Return LightGBM's options: reproducible and quiet."""
    return {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_child_samples": 10,
        "n_jobs": N_JOBS,
        "random_state": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class Comparison:
    """What a comparison of candidates gave.

    Attributes
    ----------
    frame
        The leaderboard, best first: `rank`, `model`, mean and standard deviation over the folds of each figure
        (`mae`, `mae_std`, …), `error` (empty, or why the candidate failed). No times: it is the same from run to run.
    seconds
        Fit and score time of each candidate.
    best
        Name of the first candidate that is not the dummy.
    """

    frame: pd.DataFrame
    seconds: dict[str, float]
    best: str


def make_preparation(kinds: Mapping[str, str], *, is_scaled: bool) -> ColumnTransformer:
    """Return the unfitted preparation: gaps filled, categories one-hot, numbers scaled where the model needs it.

    Parameters
    ----------
    kinds
        Feature name: `number` or `category`.
    """
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    categories = [name for name, kind in kinds.items() if kind == "category"]
    fill: Any = SimpleImputer(strategy="median", keep_empty_features=True)
    # Trees are not scaled: it would change nothing but the last digits, and those decide at thresholds in float32.
    number_steps: Any = Pipeline([("fill", fill), ("scale", StandardScaler())]) if is_scaled else fill
    # Rare categories are one already, see RowFeatures: the encoder's own way of joining them does not convert.
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    parts = [("numbers", number_steps, numbers)] if numbers else []
    parts += [("categories", encode, categories)] if categories else []
    return ColumnTransformer(parts, sparse_threshold=0, verbose_feature_names_out=False)


def make_candidate(model: str, target: Target, kinds: Mapping[str, str], *, seed: int) -> Pipeline:
    """Return one unfitted candidate: preparation, then estimator."""
    classifier, regressor = ESTIMATORS[model]
    estimator = (classifier if target.task == "classification" else regressor)(seed)
    return Pipeline([("preparation", make_preparation(kinds, is_scaled=model in SCALED)), ("estimator", estimator)])


def find_kinds(features: pd.DataFrame) -> dict[str, str]:
    """Return the kind of each feature column, `number` or `category`."""
    return {
        str(name): "number" if pd.api.types.is_numeric_dtype(features[name]) else "category"
        for name in features.columns
    }


def compare(
    features: pd.DataFrame,
    truth: pd.Series,
    *,
    target: Target,
    training: Training,
    seed: int,
    on_candidate: Callable[[str, str], None] = lambda name, result: None,
) -> Comparison:
    """Cross-validate every candidate on the training rows and rank them.

    Parameters
    ----------
    features
        Shape (n_rows, n_features), as `RowFeatures` gives them.
    truth
        Shape (n_rows,).
    on_candidate
        Called after each candidate with its name and its figure or error.

    Raises
    ------
    ModelError
        Every candidate failed.
    """
    kinds, lines, seconds = find_kinds(features), [], {}
    for model in training.models:
        started = time.monotonic()
        try:
            scores = cross_validate(
                make_candidate(model, target, kinds, seed=seed),
                features,
                truth,
                target=target,
                folds=training.folds,
                seed=seed,
            )
            line: dict[str, Any] = {"model": model, **scores, "error": ""}
            on_candidate(model, f"{training.metric} {scores[training.metric]:.4g}")
        except Exception as error:  # whatever a library raises, the candidate stays in the leaderboard with it
            reason = str(error).partition("\n")[0]
            line = {"model": model, "error": f"{type(error).__name__}: {reason}"}
            on_candidate(model, line["error"])
        lines.append(line)
        seconds[model] = time.monotonic() - started
    frame = rank(pd.DataFrame(lines), training.metric)
    ranked = frame[(frame["error"] == "") & (frame["model"] != DUMMY)]
    if ranked.empty:
        reasons = list_briefly(
            f"{model}: {error}" for model, error in zip(frame["model"], frame["error"], strict=True) if error
        )
        raise ModelError(f"no candidate besides the dummy could be fitted: {reasons or 'training.models has none'}")
    return Comparison(frame, seconds, str(ranked["model"].iloc[0]))


def cross_validate(
    candidate: Pipeline, features: pd.DataFrame, truth: pd.Series, *, target: Target, folds: int, seed: int
) -> dict[str, float]:
    """Return mean and standard deviation of every figure over the folds."""
    splitter = StratifiedKFold if target.task == "classification" else KFold
    scores = []
    for train, test in splitter(folds, shuffle=True, random_state=seed).split(features, truth):
        fitted = fit_candidate(clone(candidate), features.iloc[train], truth.iloc[train])
        answers = metrics.make_answers(truth.iloc[test], fitted, features.iloc[test], target)
        scores.append(metrics.compute_metrics(answers))
    summary: dict[str, float] = {}
    for name in scores[0]:
        values = np.array([score[name] for score in scores])
        summary |= {name: float(values.mean()), f"{name}_std": float(values.std(ddof=1))}
    return summary


def fit_candidate(candidate: Pipeline, features: pd.DataFrame, truth: pd.Series) -> Pipeline:
    """Fit a candidate with all threads, and leave it predicting with one.

    A forest adds its trees' votes in the order in which threads finish: with several, the last digits change from
    run to run.
    """
    candidate.fit(features, truth)
    if "n_jobs" in candidate[-1].get_params():
        candidate[-1].set_params(n_jobs=1)
    return candidate


def rank(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the leaderboard, best first, failed candidates last."""
    if metric not in frame:
        frame = frame.assign(**{metric: np.nan})
    ascending = not metrics.is_greater_better(metric)
    ordered = frame.sort_values(metric, ascending=ascending, kind="stable", na_position="last").reset_index(drop=True)
    ordered.insert(0, "rank", range(1, len(ordered) + 1))
    return ordered[[*(name for name in ordered if name != "error"), "error"]]


def fit_model(
    model: str, row_features: RowFeatures, parts: list[tuple[pd.DataFrame, pd.Series]], *, target: Target, seed: int
) -> Pipeline:
    """Fit a candidate on parts of the rows and put the row features before it.

    Parameters
    ----------
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
    fitted = fit_candidate(make_candidate(model, target, find_kinds(features), seed=seed), features, truth)
    return Pipeline([("row_features", row_features), *fitted.steps])
