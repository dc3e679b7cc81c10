"""The records of each run: the ledger, MLflow, provenance."""
