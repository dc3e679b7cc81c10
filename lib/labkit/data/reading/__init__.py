"""Raw tables in the formats people have: one class for each kind of file."""
