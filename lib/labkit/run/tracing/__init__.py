"""What a kernel really opens, imports and starts, noted as it happens."""
