"""The pipeline and its monitoring as tasks of other schedulers."""
