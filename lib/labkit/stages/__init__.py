"""Stages without a notebook, source and publish; promotion, status and comparison of runs."""
