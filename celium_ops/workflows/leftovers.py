"""Rows of the miners' registries that no host of the inventory has: every deploy names them, `--prune` removes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celium_ops.fleet.model import Fleet, Host
from celium_ops.registry.rows import Endpoint
from celium_ops.remote.probe import probe


def leftovers_of(fleet: Fleet, miner: str, rows: Iterable[Endpoint]) -> list[Endpoint]:
    """Return those rows of a miner that belong to none of its executors in the inventory; pure."""
    known = {host.endpoint for host in fleet.executors_of(miner)}
    return sorted(set(rows) - known)


def find(fleet: Fleet, selected: list[Host]) -> list[dict[str, Any]]:
    """Return the leftovers of the selected miners, as the registry module takes what it shall remove.

    A miner whose registry cannot be read, perhaps because it is not there yet, has none that we know of.
    """
    miners = [host for host in selected if host.role == "miner"]
    sights = probe(miners)
    return [
        {"miner": miner.name, "address": address, "port": port}
        for miner in miners
        for address, port in leftovers_of(
            fleet, miner.name, ((row["address"], row["port"]) for row in sights[miner.name].registry or ())
        )
    ]
