"""`labkit new`: from an unknown table to a params file."""
