"""Which hosts of a fleet a command is about."""

from __future__ import annotations

from fnmatch import fnmatchcase

from celium_ops.base.errors import UsageError
from celium_ops.fleet.inventory import ROLES
from celium_ops.fleet.model import Fleet, Host


def select(fleet: Fleet, limit: str | None) -> list[Host]:
    """Return the hosts that a limit names: hosts, roles' groups, or patterns like gpu-*, separated by commas; pure.

    Raises:
        UsageError: a part of the limit matches nothing.
    """
    if limit is None:
        return list(fleet.hosts.values())
    chosen: set[str] = set()
    for part in limit.split(","):
        matching = {
            host.name
            for host in fleet.hosts.values()
            if fnmatchcase(host.name, part) or part in (f"{host.role}s", "all")
        }
        if not matching:
            known = ", ".join(list(fleet.hosts)[:10])
            raise UsageError(
                f"--limit {part} matches no host of {fleet.inventory}",
                remedy=f"hosts are {known}; groups are {', '.join(ROLES)}",
                code="no-such-host",
            )
        chosen |= matching
    return [host for host in fleet.hosts.values() if host.name in chosen]
