"""Thresholds of fitted trees, as a graph that compares in single or in double precision needs them."""

from typing import Any

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

TREES = (
    AdaBoostClassifier,
    AdaBoostRegressor,
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)


def list_thresholds(model: Any, attributes: dict[str, Any]) -> list[float]:
    """Return the thresholds of histogram gradient boosting: its converter adds nodes tree by tree, but rounds them."""
    nodes = [node for trees in model._predictors for tree in trees for node in tree.nodes]
    return [0.0 if node["is_leaf"] else float(node["num_threshold"]) for node in nodes]


def round_down(thresholds: list[float]) -> list[float]:
    """Return the largest float32 not above each threshold.

    Features are float32, so `feature <= threshold` stays as it is. Rounded to the nearest, a threshold between two
    neighbouring float32 could reach the upper one.
    """
    exact = np.asarray(thresholds, dtype="float64")
    nearest = exact.astype("float32")
    lower = np.nextafter(nearest, np.float32(-np.inf))
    return [float(value) for value in np.where(nearest > exact, lower, nearest)]
