"""Candidates: estimators with what prepares their columns."""
