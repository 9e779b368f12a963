"""Which executors of a miner may be assigned and which may not move: its registry joined with what its hosts show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from celium_ops.assignment.model import Row
from celium_ops.fleet.model import Host
from celium_ops.registry.rows import Endpoint, Registration, row_name
from celium_ops.remote.probe import Sight
from celium_ops.workflows.status import container_problems


@dataclass(frozen=True)
class Candidates:
    """The executors of one miner.

    Args:
        rows: what the solver gets: every registered executor, and every one that is ready to be.
        hosts: the hosts of the inventory, by the name of their row.
        leftovers: the rows of the registry that no host of the inventory has.
        waiting: why a host of the inventory that is not registered cannot be yet, by host.
    """

    rows: tuple[Row, ...]
    hosts: Mapping[str, Host]
    leftovers: tuple[str, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)


def candidates(
    executors: Sequence[Host],
    registry: Mapping[Endpoint, Registration],
    sights: Mapping[str, Sight],
    even_if_rented: bool = False,
    unproven: Mapping[str, str] | None = None,
) -> Candidates:
    """Join a miner's registry with its hosts in the inventory and what they show; pure.

    ``unproven`` says why some may not be registered.
    """
    hosts = {host.endpoint: host for host in executors}
    leftovers = [endpoint for endpoint in registry if endpoint not in hosts]
    rows = [
        Row(row_name(endpoint), registry[endpoint].validator, "no host of the inventory has it")
        for endpoint in leftovers
    ]
    waiting = {}
    for endpoint, host in hosts.items():
        row, sight = registry.get(endpoint), sights[host.name]
        if row is None and (reason := _not_ready(host, sight) or (unproven or {}).get(host.name)):
            waiting[host.name] = reason
            continue
        lock = None if row is None or even_if_rented else rented(sight)
        rows.append(
            Row(
                executor=row_name(endpoint),
                current=row.validator if row else None,
                lock=lock,
                pin=host.values.get("executor_validator"),
                weight=int(host.values["executor_weight"]),
            )
        )
    return Candidates(
        tuple(rows),
        {row_name(endpoint): host for endpoint, host in hosts.items()},
        tuple(row_name(endpoint) for endpoint in leftovers),
        waiting,
    )


def _not_ready(host: Host, sight: Sight) -> str | None:
    """Return why an executor may not be registered: only one that is well is offered to validators."""
    if not sight.reachable or sight.containers is None:
        return next(iter(sight.errors), "it shows no containers")
    if host.lium and host.values.get("executor_price") is None:
        return "it has no executor_price, which its miner wants"
    return next(iter(container_problems(host, sight.containers)), None)


def elsewhere(newcomers: Iterable[Host], sights: Mapping[str, Sight]) -> dict[str, str]:
    """Return which executors stand in the registry of another miner, where upstream finds them twice; pure.

    ``sights`` are those of the miners, by name; what one does not show is not known.
    """
    rows = {(row["address"], row["port"]): name for name, sight in sights.items() for row in sight.registry or ()}
    return {
        host.name: f"it is still registered at {rows[host.endpoint]}; celium-ops deploy --prune takes it off there"
        for host in newcomers
        if rows.get(host.endpoint, host.miner) != host.miner
    }


def tenanted(sights: Mapping[str, Sight]) -> dict[str, str]:
    """Return which executors may lose neither validator nor row, by name, and why in words that begin with it; pure."""
    return {name: f"{name} {why}" for name, sight in sights.items() if (why := rented(sight))}


def rented(sight: Sight) -> str | None:
    """Return why an executor may not lose its validator: a tenant has it, or nobody can tell."""
    if sight.rentals is None:
        return "cannot be asked whether it is rented"
    return f"rented ({', '.join(sight.rentals)})" if sight.rentals else None
