"""How a model is found: cross-validation, comparison of candidates, tuning, calibration, selection."""
