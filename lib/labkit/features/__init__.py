"""From a raw row to a row of features, computed identically in training and serving."""
