"""Runs notebooks as pipeline stages; independent of tables and models."""
