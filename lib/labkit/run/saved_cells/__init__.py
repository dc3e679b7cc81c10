"""What the saved cells of a notebook show without running them."""
