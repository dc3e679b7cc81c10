"""Model evaluation: metrics with confidence intervals, baselines, slices, thresholds and the gate."""
