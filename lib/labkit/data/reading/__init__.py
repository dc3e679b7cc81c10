"""Read raw tables in common file formats, with one class per kind of file."""
