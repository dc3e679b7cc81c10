"""What a verification accepts unless told otherwise; apart from it, so that the command line starts fast."""

RTOL = 1e-6
"""Largest relative difference of two numbers in outputs."""
CELL_SECONDS = 600
"""Time limit per cell, in seconds."""
