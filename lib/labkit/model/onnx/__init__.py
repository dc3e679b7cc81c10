"""Conversion to ONNX, and the verification that the graph and the pipeline make the same predictions."""
