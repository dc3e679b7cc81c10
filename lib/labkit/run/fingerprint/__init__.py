"""Whether code has changed: by what it means, not by how it is written."""
