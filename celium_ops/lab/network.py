"""The lab's Docker network: which addresses it can have on this machine, and the network itself."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.lab import docker, layout
from celium_ops.lab.layout import Host, Lab
from celium_ops.lab.process import in_parallel

# What the lab must go on reaching when it has its network.
_NEEDED = ("archive.ubuntu.com", "security.ubuntu.com", "deb.debian.org", "pypi.org", "files.pythonhosted.org")


def find_subnet(lab: str) -> IPv4Network | None:
    """Return the addresses of the lab's network; None when there is no network yet."""
    if layout.network_name(lab) not in docker.names("network", lab):
        return None
    found = docker.inspect("network", layout.network_name(lab))
    return IPv4Network(found[0]["IPAM"]["Config"][0]["Subnet"]) if found else None


def choose_subnet(lab: str) -> IPv4Network:
    """Return the best addresses for a new lab that this machine does not use for something else.

    Raises:
        CeliumError: all that the lab may have are in use.
    """
    routes = Path("/proc/net/route").read_text()
    taken = needed_addresses()
    reasons = []
    for subnet in layout.subnets(lab):
        reason = conflict(subnet, routes, taken)
        if reason is None:
            return subnet
        reasons.append(f"{subnet}: {reason}")
    raise CeliumError(
        f"this machine uses every network the lab {lab} may have: {'; '.join(reasons)}",
        remedy="take another name, which means other networks: CELIUM_LAB=NAME",
        code="network-in-use",
    )


def conflict(subnet: IPv4Network, routes: str, taken: Mapping[str, IPv4Address]) -> str | None:
    """Return why a network cannot be made here; None when it can.

    Docker does not look: it would take the addresses of the machine's own gateway, or of the archive behind it.

    Args:
        subnet: the network.
        routes: the text of ``/proc/net/route``.
        taken: addresses that must stay reachable, by what they are.
    """
    for line in routes.splitlines()[1:]:
        fields = line.split()
        # The kernel prints both as little-endian hexadecimal numbers; the default route (mask 0) reaches everything.
        address, mask = (int.from_bytes(bytes.fromhex(fields[place]), "little") for place in (1, 7))
        if mask and subnet.overlaps(IPv4Network((address, mask.bit_count()))):
            return f"{fields[0]} reaches it"
    return next((f"{name} is {address}" for name, address in taken.items() if address in subnet), None)


def needed_addresses() -> dict[str, IPv4Address]:
    """Return the addresses of the archives and name servers that the lab needs, by name."""
    found = {}
    for line in Path("/etc/resolv.conf").read_text().splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and ":" not in words[1]:
            found["the name server"] = IPv4Address(words[1])
    resolved = in_parallel([partial(_resolve, name) for name in _NEEDED])
    return found | {name: address for name, address in zip(_NEEDED, resolved, strict=True) if address}


def _resolve(name: str) -> IPv4Address | None:
    try:
        return IPv4Address(socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None


def ensure(lab: Lab, containers: Mapping[str, Any], fleet: list[Host]) -> None:
    """Make the lab's network when it is missing, and put containers that are already there on it.

    Raises:
        CeliumError: the machine uses the lab's addresses for something else by now.
    """
    if lab.network in docker.names("network", lab.name):
        return
    if reason := conflict(lab.subnet, Path("/proc/net/route").read_text(), {}):
        raise CeliumError(
            f"the lab {lab.name} cannot have its network {lab.subnet} back: {reason}",
            remedy="`celium-ops lab down`, then `celium-ops lab up`, makes it anew with other addresses",
            code="network-in-use",
        )
    docker.docker("network", "create", "--subnet", str(lab.subnet), *docker.labels(lab.name), lab.network)
    # After a reboot `docker network prune` takes the network of stopped containers; they need the new one.
    addresses = {host.container: host.address for host in fleet} | lab.services
    for container in containers:
        docker.docker("network", "disconnect", "--force", lab.network, container, check=False)
        docker.docker("network", "connect", "--ip", addresses[container], lab.network, container)
