"""Explanation of single predictions: contributions of the raw columns, and the rows that they are measured against."""
