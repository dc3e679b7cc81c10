"""Predictions from a released model."""
