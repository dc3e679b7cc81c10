"""Sweeps: an experiment with many sets of parameters, sharing what they have in common. Start at `sweep.py`."""
