"""How good a model is: metrics with intervals, baselines, slices, thresholds and the gate."""
