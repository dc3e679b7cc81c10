"""Inference with ONNX graphs; needs numpy and onnxruntime but not pandas or scikit-learn.

No other module uses onnxruntime.
"""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from labkit.errors import ModelError, get_first_line
from labkit.features.row_computation import RowComputation

NUMPY_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
"""Array type for each type of graph input; inputs of any other type are strings."""


class Graph:
    """An ONNX graph with its row features, from raw columns to predictions with numpy only."""

    def __init__(self, content: bytes, row_features: RowComputation) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises various exceptions from its C++ code
            raise ModelError(f"not an ONNX graph that can be run: {get_first_line(error)}") from error
        self.row_features = row_features
        self.inputs = {node.name: NUMPY_TYPES.get(node.type, "object") for node in self.session.get_inputs()}
        if len(self.inputs) != len(row_features.outputs_):
            raise ModelError(
                f"the graph takes {len(self.inputs)} columns, its features are {len(row_features.outputs_)}"
            )

    def predict(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predict rows given as raw columns, each of shape (n_rows,).

        Returns
        -------
        numpy.ndarray
            Classification: probabilities, shape (n_rows, n_classes). Regression: shape (n_rows,).

        Raises
        ------
        DataError
            A column is missing or of the wrong kind.
        """
        features = self.row_features.transform_columns(columns)
        feeds = {}
        for (node, dtype), name in zip(self.inputs.items(), self.row_features.outputs_, strict=True):
            feeds[node] = features[name].astype(dtype, copy=False).reshape(-1, 1)
        outputs = self.session.run(None, feeds)
        predicted: np.ndarray = np.asarray(outputs[-1])
        return predicted if predicted.shape[1:] != (1,) else predicted.ravel()
