"""The machinery that runs notebooks: it knows nothing of tables and models."""
