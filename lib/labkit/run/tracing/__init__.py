"""Recording of what a kernel opens, imports and starts."""
