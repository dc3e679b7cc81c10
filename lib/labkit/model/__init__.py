"""Models: estimators, training, evaluation and the gate, ONNX conversion, and releases."""
