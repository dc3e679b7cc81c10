"""An ONNX graph at work: needs numpy and onnxruntime, neither pandas nor scikit-learn. Sole owner of onnxruntime."""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from labkit.errors import ModelError, get_first_line
from labkit.features.row_computation import RowComputation

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
"""Type of an array by the type of the graph's input that it is for; all others are strings."""


class Graph:
    """An ONNX graph behind its row features: raw columns in, predictions out, numpy only."""

    def __init__(self, content: bytes, row_features: RowComputation) -> None:
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
