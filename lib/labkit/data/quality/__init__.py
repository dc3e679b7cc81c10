"""What looks wrong in a table: leaks, placeholders, copies, identifiers."""
