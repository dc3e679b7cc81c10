"""What is kept of each run: the ledger, MLflow, provenance."""
