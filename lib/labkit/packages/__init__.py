"""A released model in forms that work without this checkout."""
