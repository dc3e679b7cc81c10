"""One notebook: source, parameters, execution, and the `step` it uses."""
