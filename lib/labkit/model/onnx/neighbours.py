"""Conversion of nearest neighbours to ONNX, with the distances of all rows from one product of matrices.

The converter of skl2onnx subtracts the training rows from each row by itself, which takes more than ten times as long.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.extmath import row_norms

from labkit.model.onnx.nodes import add_labels, is_double, make_adders


def choose_neighbours(convert_others: Callable[..., None]) -> Callable[..., None]:
    """Return a converter of nearest neighbours; those with weights or another distance are left to a given one."""

    def convert_chosen(scope: Any, operator: Any, container: Any) -> None:
        model = operator.raw_operator
        is_plain = model.weights == "uniform" and model.effective_metric_ == "euclidean"
        (convert_neighbours if is_plain else convert_others)(scope, operator, container)

    return convert_chosen


def convert_neighbours(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of nearest neighbours with equal weights: ranks of the training rows, and the mean of the first."""
    # In double precision and by the same formula as in scikit-learn: |t|^2 - 2 x t orders the training rows t of a row
    # x as their distances do.
    from onnx import TensorProto

    model, output = operator.raw_operator, operator.outputs[-1]
    add, constant = make_adders(scope, container, in_double=True)
    rows = np.asarray(model._fit_X, "float64")
    given = add("Cast", operator.inputs[0].full_name, to=TensorProto.DOUBLE)
    products = add("MatMul", given, constant((-2 * rows.T).ravel(), shape=[*rows.T.shape]))
    ranks = add("Add", products, constant(row_norms(rows, squared=True)))
    nearest, first = constant([model.n_neighbors], TensorProto.INT64), scope.get_unique_variable_name("first")
    distances = scope.get_unique_variable_name("distances")
    container.add_node("TopK", [ranks, nearest], [distances, first], op_version=11, axis=1, largest=0, sorted=1)
    true = np.asarray(model._y, "float64").reshape(len(rows), -1)
    if hasattr(model, "classes_"):
        true = np.eye(len(model.classes_))[model._y.ravel()]
    found = add("Gather", constant(true.ravel(), shape=[*true.shape]), first, axis=0)
    mean = add("ReduceMean", found, axes=[1], keepdims=0)
    kind = TensorProto.DOUBLE if is_double(output) else TensorProto.FLOAT
    add("Cast", mean, to=kind, output=output.full_name)
    if hasattr(model, "classes_"):
        add_labels(add, constant, mean, model.classes_, output=operator.outputs[0].full_name)
