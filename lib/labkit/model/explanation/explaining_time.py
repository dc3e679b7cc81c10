"""How long explaining a row takes, estimated from the model, and how many background rows that leaves.

One explanation takes about a thousand predictions. That is too many for models that look at all training rows, or at
hundreds of deep trees: they are explained by fewer background rows, which widens the standard errors.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from labkit.model.explanation.shapley import FEWEST_BACKGROUND, count_explaining_rows

MOST_NANOSECONDS = 38_000_000
"""Time in which a row is to be explained, by the estimate; see `benchmarks/SERVING.md`."""
NEIGHBOUR, NEIGHBOUR_VALUE = 1.0, 0.02
"""Nanoseconds that a prediction takes for each training row of nearest neighbours, and for each of its values."""
NODE, NODE_FAR, MANY_NODES = 3.5, 14.0, 3_000_000
"""Nanoseconds for each node of a tree on the way to its leaf: of few trees, and of so many that no cache holds them."""


def count_affordable_rows(model: Any, n_columns: int, n_rows: int) -> int:
    """Return how many of some background rows a model can be explained by in time, at least two of them.

    Parameters
    ----------
    model
        A fitted estimator or pipeline.
    n_columns
        Raw columns, each of which gets a contribution.
    n_rows
        Background rows that are asked for; 0 stays 0.
    """
    nanoseconds = estimate_prediction(model)
    affordable = [
        n for n in range(1, n_rows + 1) if count_explaining_rows(n, n_columns) * nanoseconds < MOST_NANOSECONDS
    ]
    return min(n_rows, max([FEWEST_BACKGROUND, *affordable]))


def estimate_prediction(model: Any) -> float:
    """Return about how many nanoseconds the prediction of one row takes among many, beyond what any model takes."""
    parts = [*list_inner_estimators(model)]
    trees = [one.tree_ for one in parts if hasattr(one, "tree_")]
    n_visited = sum(float(tree.n_node_samples.sum() / tree.n_node_samples[0]) for tree in trees)
    far = min(1.0, sum(tree.node_count for tree in trees) / MANY_NODES)
    shapes = [one._fit_X.shape for one in parts if hasattr(one, "_fit_X")]
    neighbours = sum(n_rows * (NEIGHBOUR + NEIGHBOUR_VALUE * n_values) for n_rows, n_values in shapes)
    return n_visited * (NODE + far * (NODE_FAR - NODE)) + neighbours


def list_inner_estimators(model: Any) -> Iterator[Any]:
    """Yield an estimator and those inside it."""
    yield model
    inner = [step for _, step in getattr(model, "steps", ())]
    inner += [model.estimator] if hasattr(getattr(model, "estimator", None), "predict") else []
    for one in getattr(model, "estimators_", ()):
        inner += one.ravel().tolist() if isinstance(one, np.ndarray) else [one]
    for one in inner:
        yield from list_inner_estimators(one)
