"""Whether a notebook does what it shows: run again in a fresh kernel, and checked without running it."""
