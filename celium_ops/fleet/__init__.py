"""The fleet as the inventory describes it: contracts, resolved values, findings, typed hosts."""
