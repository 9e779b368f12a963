"""One module per thing an operator does."""
