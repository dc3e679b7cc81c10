"""Secret values: reading, redaction and detection."""
