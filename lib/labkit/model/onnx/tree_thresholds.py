"""Tree thresholds in ONNX graphs, kept as exact as those of the model.

Converters write thresholds as float32. The converters themselves are registered in `labkit.model.onnx.converters`.
"""

from typing import Any

import numpy as np

OPSET = {"": 17, "ai.onnx.ml": 3}
"""Versions of the operator sets that graphs use, by domain."""


def list_thresholds(model: Any, attributes: dict[str, Any]) -> list[float]:
    """Return the exact thresholds of histogram gradient boosting, in the tree order of its converter, which rounds."""
    nodes = [node for trees in model._predictors for tree in trees for node in tree.nodes]
    return [0.0 if node["is_leaf"] else float(node["num_threshold"]) for node in nodes]


def set_thresholds(attributes: dict[str, Any], thresholds: list[float], *, in_double: bool) -> dict[str, Any]:
    """Return the attributes of a tree-ensemble node with other thresholds, as float64 or as float32 with equal splits.

    Booleans become 0 and 1, because onnx does not accept them.
    """
    from onnx import numpy_helper

    name = "nodes_missing_value_tracks_true"
    changed = {**attributes, name: [int(value) for value in attributes.get(name, [])]}
    if not in_double:
        return {**changed, "nodes_values": round_down(thresholds)}
    del changed["nodes_values"]
    # The weights must have the same type.
    numbers = {"nodes_values": thresholds}
    for key in ("base_values", "class_weights", "target_weights", "nodes_hitrates"):
        if len(given := changed.pop(key, [])):
            numbers[key] = list(given)
    tensors = {
        f"{key}_as_tensor": numpy_helper.from_array(np.array(values, dtype="float64"))
        for key, values in numbers.items()
    }
    return {**changed, **tensors, "op_version": OPSET["ai.onnx.ml"]}


def round_down(thresholds: list[float]) -> list[float]:
    """Return the largest float32 not above each threshold."""
    # Features are float32, so the result of `feature <= threshold` does not change. Rounding to the nearest could move
    # a threshold between two adjacent float32 numbers to the upper one.
    exact = np.asarray(thresholds, dtype="float64")
    nearest = exact.astype("float32")
    lower = np.nextafter(nearest, np.float32(-np.inf))
    return [float(value) for value in np.where(nearest > exact, lower, nearest)]
