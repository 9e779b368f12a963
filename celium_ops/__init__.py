"""celium-ops: provisions and operates fleets of the Celium (Lium) GPU compute subnet, Bittensor subnet 51."""

__version__ = "0.1.0"
