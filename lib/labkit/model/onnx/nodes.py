"""Nodes of graphs that converters add one by one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def is_double(variable: Any) -> bool:
    """Return whether a variable of a graph has type float64."""
    from skl2onnx.common.data_types import DoubleTensorType

    return isinstance(variable.type, DoubleTensorType)


def make_adders(scope: Any, container: Any, *, in_double: bool) -> tuple[Callable[..., str], Callable[..., str]]:
    """Return functions that add a node and a constant to a graph; both return the name of the result."""
    # Constants have the graph's number type unless another type is given.
    from onnx import TensorProto

    number = TensorProto.DOUBLE if in_double else TensorProto.FLOAT

    def add(kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or scope.get_unique_variable_name(kind.lower())
        version = {"Add": 14, "Sub": 14, "Mul": 14, "Div": 14, "Pow": 15, "GreaterOrEqual": 16, "Where": 16}
        container.add_node(kind, list(inputs), output, op_version=version.get(kind, 13), **attributes)
        return output

    def constant(values: Sequence[Any] | np.ndarray, kind: int = number, shape: list[int] | None = None) -> str:
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, [len(values)] if shape is None else shape, values)
        return name

    return add, constant


def add_labels(
    add: Callable[..., str], constant: Callable[..., str], probabilities: str, classes: np.ndarray, *, output: str
) -> None:
    """Add the nodes that return the most probable class of each row."""
    from onnx import TensorProto

    labels = classes.tolist()
    kind = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    values = [label.encode() if isinstance(label, str) else int(label) for label in labels]
    add("Gather", constant(values, kind), add("ArgMax", probabilities, axis=1, keepdims=0), output=output, axis=0)
