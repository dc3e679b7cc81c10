"""Candidates: estimators together with the preprocessing of their columns."""
