"""What happens to models after their release."""
