"""The miner's executor registry: what it holds."""
