"""Tables: where they come from, what they must look like, how they are cleaned, split and turned into features."""
