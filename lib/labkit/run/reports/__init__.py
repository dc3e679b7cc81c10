"""HTML pages of executed notebooks, and their index."""
