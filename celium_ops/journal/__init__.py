"""What happened, what is under way, and who holds the lock."""
