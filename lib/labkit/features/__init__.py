"""From a raw row to a model row, alike in training and serving."""
