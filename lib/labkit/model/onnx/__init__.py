"""Conversion to ONNX, and the proof that the graph predicts what the pipeline predicts."""
