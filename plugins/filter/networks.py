# SPDX-License-Identifier: MIT
"""Filters about Docker's networks: which pools of addresses collide with a host's routes, and which do not.

A pool is as Docker writes it, ``{base: 10.200.0.0/16, size: 24}``.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from ansible_collections.celium.ops.plugins.module_utils.networks import hidden

Pools = list[dict[str, Any]]
Routes = list[dict[str, Any]] | None

_BRIDGE = re.compile("docker0")


def collisions(pools: Pools, routes: Routes, bridges: list[str] | None = None) -> list[str]:
    """Return which pools hide a route, with what they hide; ``bridges`` are those of Docker with names of their own."""
    seen = ((pool["base"], hidden(pool["base"], routes, bridges or ())) for pool in pools)
    return [f"{base}, but this host has a route to {what}" for base, what in seen if what]


def collision_free(pools: Pools, routes: Routes) -> Pools:
    """Return the pools that hide no route, nor a network that Docker has already; its bridge will move."""
    return [pool for pool in pools if not hidden(pool["base"], routes, dockers=_BRIDGE)]


def docker_networks(pools: Pools) -> dict[str, Any]:
    """Return the keys of daemon.json for pools; the first part of the first one is the bridge's.

    Without a ``bip`` the bridge would keep what it has.
    """
    if not pools:
        return {}
    first = ipaddress.IPv4Network(pools[0]["base"])
    bridge = f"{first.network_address + 1}/{pools[0]['size']}"
    return {"bip": bridge, "default-address-pools": [{"base": one["base"], "size": int(one["size"])} for one in pools]}


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"collisions": collisions, "collision_free": collision_free, "docker_networks": docker_networks}
