"""Stages without a notebook: source, fingerprint, publish."""
