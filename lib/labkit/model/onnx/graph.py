"""Models as ONNX graphs: converted, proved equal on real rows, and run without scikit-learn.

Sole owner of onnxruntime. A graph covers preparation and estimator; the row features before it are numpy in either
case. Conversion is not trusted: without proof on real rows there is no graph. How a model is converted:
`labkit.model.onnx.converters`; the rows that no table has yet: `labkit.model.onnx.hard_rows`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd

from labkit.errors import ModelError, get_first_line
from labkit.features.row_features import RowFeatures, take_columns
from labkit.model.onnx.converters import convert as convert

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
"""Type of an array by the type of the graph's input that it is for; all others are strings."""


@dataclass(frozen=True)
class Parity:
    """How far the graph's predictions are from the pipeline's, on the same raw rows.

    Attributes
    ----------
    largest_difference
        Of probabilities, or of predictions divided by the largest absolute prediction of a real row, or by the row's
        own if that is larger.
    reason
        Why there is no graph; empty if there is one and it is equal.
    """

    rows: int
    largest_difference: float | None
    tolerance: float
    reason: str

    @property
    def is_equal(self) -> bool:
        """Whether the graph may stand in for the pipeline."""
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


class Graph:
    """An ONNX graph behind its row features: raw columns in, predictions out, numpy only."""

    def __init__(self, content: bytes, row_features: RowFeatures) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises plain exceptions of its C++ side
            raise ModelError(f"not an ONNX graph that can be run: {get_first_line(error)}") from error
        self.row_features = row_features
        self.inputs = {node.name: TYPES.get(node.type, "object") for node in self.session.get_inputs()}
        if len(self.inputs) != len(row_features.outputs_):
            raise ModelError(
                f"the graph takes {len(self.inputs)} columns, its features are {len(row_features.outputs_)}"
            )

    def predict(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predict rows given as raw columns of shape (n_rows,).

        Returns
        -------
        numpy.ndarray
            Classification: probabilities, shape (n_rows, n_classes). Regression: shape (n_rows,).

        Raises
        ------
        DataError
            A column is missing or not of its kind.
        """
        features = self.row_features.transform_columns(columns)
        feeds = {}
        for (node, dtype), name in zip(self.inputs.items(), self.row_features.outputs_, strict=True):
            feeds[node] = features[name].astype(dtype, copy=False).reshape(-1, 1)
        outputs = self.session.run(None, feeds)
        predicted: np.ndarray = np.asarray(outputs[-1])
        return predicted if predicted.shape[1:] != (1,) else predicted.ravel()


def prove_parity(
    model: Any, graph: Graph, frame: pd.DataFrame, *, tolerance: float, hard: pd.DataFrame | None = None
) -> Parity:
    """Compare the graph's predictions with the pipeline's, from raw columns.

    Parameters
    ----------
    frame
        Real raw rows, shape (n_rows, n_columns).
    tolerance
        Largest accepted difference, see `Parity`.
    hard
        Rows as `labkit.model.onnx.hard_rows` makes them.
    """
    real = frame[list(model[0].inputs_)]
    rows = real if hard is None else pd.concat([real, hard[list(real)]], ignore_index=True)
    expected = predict(model, real)
    try:
        if hard is not None:
            expected = np.concatenate([expected, predict(model, hard)])
        found = graph.predict(take_columns(rows, model[0].inputs_))
    except Exception as error:  # onnxruntime and the estimators raise errors of many kinds
        return Parity(len(rows), None, tolerance, f"fails on rows that may come: {get_first_line(error)}")
    if found.shape != expected.shape or not (np.isfinite(found) & np.isfinite(expected)).all():
        return Parity(len(rows), None, tolerance, "the graph's predictions have another shape, or some are not finite")
    scale = 1.0
    if not hasattr(model[-1], "classes_"):
        scale = np.maximum(np.abs(expected), max(float(np.abs(expected[: len(real)]).max()), 1e-12))
    difference = float((np.abs(found - expected) / scale).max())
    reason = "" if difference <= tolerance else f"differs by {difference:.2g}, more than {tolerance:.2g}"
    return Parity(len(rows), float(f"{difference:.3g}"), tolerance, reason)


def predict(model: Any, frame: pd.DataFrame) -> np.ndarray:
    """Return a pipeline's probabilities, shape (n_rows, n_classes), or numbers, shape (n_rows,)."""
    is_classifier = hasattr(model[-1], "classes_")
    with np.errstate(all="ignore"):  # sums of extreme numbers, by which scikit-learn looks for infinite ones
        return np.asarray(model.predict_proba(frame) if is_classifier else model.predict(frame))


def make_graph(
    model: Any, frame: pd.DataFrame, *, tolerance: float, hard: pd.DataFrame | None = None
) -> tuple[bytes | None, Parity]:
    """Convert a model and prove the graph equal; without proof there is no graph, and the reason says why.

    Parameters
    ----------
    frame, tolerance, hard
        As `prove_parity` takes them.
    """
    n_rows = len(frame) + (0 if hard is None else len(hard))
    try:
        content = convert(model)
        graph = Graph(content, model[0])
    except ModelError as error:
        return None, Parity(n_rows, None, tolerance, str(error))
    parity = prove_parity(model, graph, frame, tolerance=tolerance, hard=hard)
    return (content if parity.is_equal else None), parity
