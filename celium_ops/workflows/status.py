"""What the fleet looks like right now: every host asked once, executors compared with their miners' registries."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.fleet.remedies import NO_CHAIN, NO_EVM, NO_EVM_REMEDY
from celium_ops.fleet.resolve import environments
from celium_ops.registry.rows import Endpoint, Registration, by_endpoint
from celium_ops.remote.probe import Container, Sight, probe
from celium_ops.workflows.faults import recognise
from celium_ops.workflows.plan import refused_validator, registry_problems

SERVICES = {
    "miner": ("connector", "db", "miner"),
    "executor": ("db", "executor", "monitor"),
    "validator": ("connector", "db", "redis", "validator"),
}
"""The services of each role's stack, as its compose template names them."""


@dataclass(frozen=True)
class HostStatus:
    """One host.

    ``registered`` is null where it does not apply or the miner could not be asked. ``env_up_to_date`` tells whether
    its environment files are those of the inventory and its containers were made with them; null if nobody could tell.
    ``warnings`` do not make it unhealthy, but something will not work.
    """

    name: str
    role: str
    reachable: bool
    healthy: bool
    containers: tuple[Container, ...] = ()
    registered: bool | None = None
    validator: str | None = None
    env_up_to_date: bool | None = None
    problems: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the host as ``status --json`` promises it."""
        return asdict(self)


def fleet_status(inventory: Path) -> list[HostStatus]:
    """Return the state of every host of the fleet, in the inventory's order.

    Raises:
        UsageError: the inventory is wrong.
    """
    fleet = load_fleet(inventory)
    with ThreadPoolExecutor(1) as beside:  # Ansible renders while the hosts are asked
        wanted = beside.submit(environments, inventory, masked=False)
        sights = probe(fleet.hosts.values(), logs=True)
    registries = {name: by_endpoint(sight.registry) for name, sight in sights.items() if sight.registry is not None}
    return [
        judge(fleet, host, sights[host.name], registries, wanted.result()[host.name].files)
        for host in fleet.hosts.values()
    ]


def judge(
    fleet: Fleet,
    host: Host,
    sight: Sight,
    registries: dict[str, dict[Endpoint, Registration]],
    environment: dict[str, str],
) -> HostStatus:
    """Return one host's state; pure.

    Healthy is a host whose services all run and pass their checks and, for an executor with a miner in the fleet,
    that its miner knows: an executor that is not registered earns nothing. A miner that cannot be asked is the
    miner's problem, not the executor's. An environment that is not the inventory's does not make a host unhealthy: it
    waits for a deploy. A miner that cannot use the chain is found by no validator, so it is not healthy.

    Args:
        fleet: the hosts of the inventory.
        host: the host as the inventory has it.
        sight: what it shows.
        registries: what each miner that could be asked has registered, by miner.
        environment: the environment files as the inventory has them, by name.
    """
    problems = [*sight.errors]
    if sight.reachable and sight.containers is not None:
        problems += container_problems(host, sight.containers)
    if sight.chain:
        problems.append(f"{NO_CHAIN} {sight.chain}")
    registered, validator = None, None
    if host.role == "executor" and host.miner in registries:
        row = registries[host.miner].get(host.endpoint)
        registered, validator = row is not None, row.validator if row else None
        problems += registry_problems(fleet, host, row) + refused_validator(fleet, host, row)
    warnings = (NO_EVM,) if host.without_evm else ()
    fault = recognise("\n".join(problems))
    return HostStatus(
        name=host.name,
        role=host.role,
        reachable=sight.reachable,
        healthy=sight.reachable and not problems,
        containers=sight.containers or (),
        registered=registered,
        validator=validator,
        env_up_to_date=_env_up_to_date(sight, environment),
        problems=tuple(problems),
        warnings=warnings,
        remedy=fault.remedy if fault else NO_EVM_REMEDY if warnings else None,
    )


def _env_up_to_date(sight: Sight, environment: dict[str, str]) -> bool | None:
    if sight.environments is None or sight.containers is None:
        return None
    wanted = {
        name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in environment.items()
    }
    return sight.environments == wanted and not any(container.outdated for container in sight.containers)


def container_problems(host: Host, containers: tuple[Container, ...]) -> list[str]:
    """Return what keeps the stack of a host from being well, one line each; pure."""
    own = {container.service: container for container in containers if container.name.startswith(f"{host.role}-")}
    problems = []
    for service in SERVICES[host.role]:
        container = own.get(service)
        if container is None:
            problems.append(f"{service} is not there")
        elif not container.well:
            health = f", {container.health}" if container.health != "none" else ""
            health += f" ({container.complaint})" if container.complaint else ""
            problems.append(f"{service} is {container.state}{health}")
    return problems
