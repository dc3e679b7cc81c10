"""Secret values: where they come from, how they are redacted and detected."""
