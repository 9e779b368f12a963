"""Reading the subnet: the SDK behind one small adapter, and what it read as plain JSON."""
