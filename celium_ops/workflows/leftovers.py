"""Rows of the miners' registries that no host of the inventory has: every deploy names them, `--prune` removes them."""

from __future__ import annotations

from collections.abc import Iterable

from celium_ops.fleet.model import Fleet
from celium_ops.registry.rows import Endpoint


def leftovers_of(fleet: Fleet, miner: str, rows: Iterable[Endpoint]) -> list[Endpoint]:
    """Return those rows of a miner that belong to none of its executors in the inventory; pure."""
    known = {host.endpoint for host in fleet.executors_of(miner)}
    return sorted(set(rows) - known)
