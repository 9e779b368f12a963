"""Which executor should serve which validator: pure maths, no I/O."""
