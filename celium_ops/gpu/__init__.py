"""What GPUs are, and proof of it."""
