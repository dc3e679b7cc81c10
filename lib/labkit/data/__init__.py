"""Tables: reading, contracts, data quality, joining, cleaning and splitting."""
