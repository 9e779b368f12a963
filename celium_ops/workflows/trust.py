"""Enrol the host keys of a fleet: look at what every host shows, then record what the operator agreed to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from celium_ops.base.errors import CeliumError
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Host
from celium_ops.remote.host_keys import HostKey, ShownKey, known_hosts_file, known_keys, record, shown_key
from celium_ops.remote.openssh import resolve
from celium_ops.remote.ssh import MAX_PARALLEL

State = Literal["known", "new", "trusted", "changed", "replaced", "failed"]


@dataclass(frozen=True)
class HostTrust:
    """One host: what it shows, and what was known of it before; ``file`` is where a new key belongs."""

    name: str
    state: State
    shown: ShownKey | None = None
    known: tuple[HostKey, ...] = ()
    file: Path | None = None
    known_as: str = ""
    error: str | None = None

    @property
    def well(self) -> bool:
        """Tell whether connections to it are accepted from now on."""
        return self.state in ("known", "trusted", "replaced")

    def to_json(self) -> dict[str, Any]:
        """Return the host as ``hosts trust --json`` promises it."""
        return {
            "name": self.name,
            "state": self.state,
            "key": self.shown.key.to_json() if self.shown else None,
            "known": [key.to_json() for key in self.known],
            "file": str(self.file) if self.file else None,
            "error": self.error,
        }


def examine(inventory: Path, names: list[str]) -> list[HostTrust]:
    """Look at the named hosts, all of the fleet's if none, all at once; nothing is recorded.

    Raises:
        UsageError: the inventory is wrong, or there is no such host.
    """
    fleet = load_fleet(inventory)
    hosts = [fleet.host(name) for name in names] or list(fleet.hosts.values())
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        return list(pool.map(_look, hosts))


def _look(host: Host) -> HostTrust:
    try:
        options = resolve(host.connection)
        file = known_hosts_file(options)
        known = known_keys(options)
        shown = shown_key(options, known.keys)
    except CeliumError as error:
        return HostTrust(host.name, "failed", error=error.message)
    found = HostTrust(host.name, "new", shown, known.keys, file, options.host_key_name)
    if shown.key in known.revoked:
        return replace(found, state="failed", error="its key is marked as revoked")
    if shown.key in known.keys:
        return replace(found, state="known")
    return replace(found, state="changed") if known.keys else found


def trust(hosts: list[HostTrust], replace_changed: bool) -> list[HostTrust]:
    """Record the keys of new hosts and, if wished, of changed ones; return all hosts as they are now.

    Raises:
        CeliumError: a file cannot be written.
    """
    states: dict[State, State] = {"new": "trusted", **({"changed": "replaced"} if replace_changed else {})}
    wanted = [host for host in hosts if host.state in states]
    for file in {host.file for host in wanted if host.file}:
        here = [host for host in wanted if host.file == file]
        lines = [host.shown.line for host in here if host.shown]
        record(file, lines, [host.known_as for host in here if host.state == "changed"])
    return [replace(host, state=states[host.state]) if host in wanted else host for host in hosts]
