"""The stages in order: DVC, skipping, restoring."""
