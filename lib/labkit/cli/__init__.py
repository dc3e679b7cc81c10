"""The command line. Each command parses its arguments and calls one public function."""
