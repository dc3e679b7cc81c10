"""What is released: pipeline, ONNX graph, contract, model card."""
