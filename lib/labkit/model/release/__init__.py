"""Releases: pipeline, ONNX graph, contract and model card."""
