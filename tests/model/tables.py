"""A small mixed table and models of it, for the tests of this folder."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from labkit.data.timeline import Timeline
from labkit.features.row_features import RowFeatures
from labkit.model.estimators import candidates, preprocessing
from labkit.model.training import comparison
from labkit.params.tables import Target
from labkit.params.training import CLASSIFIERS, MODELS

TASKS = ("binary", "multiclass", "regression")
CASES = [(name, task) for name in MODELS for task in TASKS if task != "regression" or name not in CLASSIFIERS]
"""Every model with every task it is for."""

BLOCKED = ("pandas", "sklearn", "scipy", "pyarrow", "pydantic", "onnx", "skl2onnx", "lightgbm", "mlflow")
"""Packages that a released model predicts without."""


def make_table(n_rows: int = 200) -> pd.DataFrame:
    """Return numbers, strings, booleans and missing values under names that are no identifiers."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a b": random.normal(size=n_rows),
            "a_b": random.normal(size=n_rows) * 1000,
            "größe": random.choice(["rot", "grün", "日本", ""], n_rows),
            'text, "x"': random.choice(["x", "y"], n_rows),
            "flag": random.random(n_rows) < 0.5,
        }
    )
    frame.loc[::7, "a b"] = np.nan
    frame.loc[::9, "größe"] = None
    return frame


def make_target(task: str) -> Target:
    """Return the target of a task."""
    return Target(column="outcome", task="regression" if task == "regression" else "classification")


@cache
def make_model(name: str, task: str, columns: tuple[str, ...] = ()) -> Any:
    """Return a candidate fitted to the table, or to some of its columns."""
    return fit_model(name, *make_rows(task, columns), make_target(task))


@cache
def make_small_model(name: str, task: str, columns: tuple[str, ...] = ()) -> Any:
    """Return the same with few trees, where their number makes no difference but to the time."""
    return fit_small_model(name, *make_rows(task, columns), make_target(task))


def make_rows(task: str, columns: tuple[str, ...]) -> tuple[pd.DataFrame, pd.Series]:
    """Return the table, or some of its columns, and the true values of a task."""
    frame = make_table()
    score = frame["a b"].fillna(0) + frame["a_b"] / 1000 + 2 * (frame["größe"] == "rot")
    targets = {
        "binary": pd.Series(np.where(score > 0.5, "yes", "no")),
        "multiclass": pd.Series(np.digitize(score, [0, 1.5])),
        "regression": score * 100,
    }
    return (frame[list(columns)] if columns else frame), targets[task]


def fit_small_model(name: str, frame: pd.DataFrame, y_true: pd.Series, target: Target) -> Any:
    """Return a candidate of a few trees fitted to a table."""
    return fit_model(name, frame, y_true, target, most_trees=30)


def fit_model(
    name: str, frame: pd.DataFrame, y_true: pd.Series, target: Target, *, most_trees: int | None = None
) -> Any:
    """Return a candidate fitted to a table; forests and boosted trees grow no more trees than that."""
    row_features = RowFeatures().fit(frame)
    features = row_features.transform(frame)
    candidate = candidates.make_candidate(name, target, preprocessing.find_kinds(features), seed=0)
    if most_trees is not None:
        limit_trees(candidate[-1], most_trees)
    return comparison.fit_model(candidate, row_features, [(features, y_true)], target=target, seed=0)


def limit_trees(estimator: Any, most: int) -> None:
    """Let an unfitted forest or boosting, also as a member of a blend, grow no more trees than that."""
    numbers = {key: n for key, n in estimator.get_params().items() if key.endswith("n_estimators")}
    estimator.set_params(**{key: min(n, most) for key, n in numbers.items()})


def make_timeline(n_rows: int, *, delay_days: float = 0) -> Timeline:
    """Return one row a day, each outcome known so many days after the question."""
    asked = pd.date_range("2024-01-01", periods=n_rows, unit="us").to_numpy()
    return Timeline(asked, asked + np.timedelta64(round(delay_days * 86_400_000_000), "us"))


def make_new_rows() -> pd.DataFrame:
    """Return rows as they may come later: unseen categories, missing values and numbers off the scale."""
    frame = make_table(60)
    frame.loc[3:20, "größe"] = "never seen"
    frame.loc[10:30, "a b"] = np.nan
    frame.loc[40, "a_b"] = 1e39
    frame.loc[41, "a_b"] = -1e30
    return frame
