"""Inference with ONNX graphs; needs numpy and onnxruntime but not pandas or scikit-learn.

No other module uses onnxruntime.
"""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from labkit.errors import ModelError, get_first_line
from labkit.features.compiled import CODES, NUMBERS, CompiledFeatures
from labkit.features.outcome_rates import State
from labkit.features.row_computation import RowComputation

NUMPY_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}
"""Array type for each type of graph input; inputs of any other type are strings."""


class Graph:
    """An ONNX graph with its row features, from raw columns to predictions with numpy only.

    Graphs with one input per feature, as older releases have, are run as well; see `labkit.model.onnx.compact`.
    """

    def __init__(self, content: bytes, row_features: RowComputation) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises various exceptions from its C++ code
            raise ModelError(f"not an ONNX graph that can be run: {get_first_line(error)}") from error
        self.row_features = row_features
        nodes = self.session.get_inputs()
        self.inputs = {node.name: NUMPY_TYPES.get(node.type, "object") for node in nodes}
        self.outputs = [self.session.get_outputs()[-1].name]
        kinds = [*row_features.outputs_.values()]
        sizes = {NUMBERS: kinds.count("number"), CODES: kinds.count("category")}
        found = {node.name: node.shape[1] for node in nodes}
        # Features may have the names of the two inputs, but not their types.
        is_compact = found == {name: size for name, size in sizes.items() if size}
        is_compact &= self.inputs.get(NUMBERS) != "object" and self.inputs.get(CODES) in ("int64", None)
        self.compiled = CompiledFeatures(row_features) if is_compact else None
        if self.compiled is None and len(found) != len(kinds):
            raise ModelError(f"the graph takes {sum(found.values())} columns, its features are {len(kinds)}")

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
        outputs = self.session.run(self.outputs, self.make_feeds(columns))
        predicted: np.ndarray = np.asarray(outputs[0])
        return predicted if predicted.shape[1:] != (1,) else predicted.ravel()

    def replace_outcomes(self, state: State) -> None:
        """Replace the outcomes that the histories count; predictions in progress go on with the former ones."""
        self.row_features.state_ = state
        if self.compiled is not None:
            self.compiled.index = self.row_features.make_history_index()

    def make_feeds(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the inputs of the graph."""
        if self.compiled is not None:
            numbers, codes = self.compiled.compute(columns)
            feeds = {NUMBERS: numbers, CODES: codes}
            return {name: feeds[name].astype(dtype, copy=False) for name, dtype in self.inputs.items()}
        features = self.row_features.transform_columns(columns)
        return {
            node: features[name].astype(dtype, copy=False).reshape(-1, 1)
            for (node, dtype), name in zip(self.inputs.items(), self.row_features.outputs_, strict=True)
        }
