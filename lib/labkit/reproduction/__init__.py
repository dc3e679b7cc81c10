"""Past runs rebuilt from their records, and exported as folders that can be kept."""
