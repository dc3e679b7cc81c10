"""Data-quality checks for a table: leaks, placeholders, copies, identifiers."""
