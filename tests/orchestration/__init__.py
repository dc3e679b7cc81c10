"""Tests of `labkit.orchestration`."""
