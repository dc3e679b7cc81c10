"""Plots, widgets and prose for notebooks, the only callers."""
