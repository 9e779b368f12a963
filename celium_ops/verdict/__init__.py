"""What the subnet's validator checks, as dated data, and what it would say of a host: pure."""
