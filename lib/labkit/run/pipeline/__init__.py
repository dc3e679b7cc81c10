"""Runs the stages in order with DVC, and skips or restores those that are up to date."""
