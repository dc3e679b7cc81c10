"""What happens to a model after training: publishing it and using it."""
