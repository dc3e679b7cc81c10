"""Model training: cross-validation, comparison of candidates, tuning, calibration and selection."""
