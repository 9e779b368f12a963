"""What differs on each host from what its last apply was given and left behind, and what a deploy would do about it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from celium_ops.fleet.fingerprint import Inputs, changed, inputs
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.fleet.remedies import REFUSED_REMEDY
from celium_ops.registry.rows import Endpoint, Registration, by_endpoint, row_name
from celium_ops.remote.probe import Record, Sight, Wait, probe
from celium_ops.workflows.leftovers import leftovers_of
from celium_ops.workflows.selection import select

State = Literal["converged", "differs", "new", "unreachable"]
Registries = Mapping[str, Mapping[Endpoint, Registration]]
"""What each miner that could be asked has registered."""


@dataclass(frozen=True)
class Drift:
    """One thing that differs.

    ``kind`` is input, file, directory, package, unit, container, image, firewall, registration, validator or leftover;
    ``diff`` are the lines that differ in a file that holds no secret.
    """

    kind: str
    name: str
    why: str
    diff: str | None = None


@dataclass(frozen=True)
class HostPlan:
    """One host.

    ``error`` says why it could not be read, or not wholly; ``effects`` what a deploy would do beside playing its
    roles; ``rentals`` are the containers that tenants have there, null where that cannot be told; ``registered`` is
    null where it does not apply or the miner could not be asked; ``leftovers`` are the rows of a miner that no host
    of the inventory has; ``waits`` are the changes that an earlier deploy left for the end of a rental, and
    ``waits_for`` says for whose a deploy would.
    """

    name: str
    role: str
    state: State
    drift: tuple[Drift, ...] = ()
    effects: tuple[str, ...] = ()
    rentals: tuple[str, ...] | None = ()
    registered: bool | None = None
    leftovers: tuple[Endpoint, ...] = ()
    waits: tuple[Wait, ...] = ()
    waits_for: str | None = None
    error: str | None = None

    @property
    def pending(self) -> tuple[Drift, ...]:
        """Return what a deploy would see to; a leftover it only names."""
        return tuple(one for one in self.drift if one.kind != "leftover")

    @property
    def only_registration(self) -> bool:
        """Tell whether all that differs stands in its miner's registry."""
        kinds = {one.kind for one in self.pending}
        return bool(kinds) and not self.error and kinds <= {"registration", "validator"}

    @property
    def only_waits(self) -> bool:
        """Return whether all that differs was left for the end of a rental, and a tenant still has the host."""
        return bool(self.waits and self.waits_for) and not self.error and len(self.pending) == len(self.waits)

    @property
    def changes(self) -> int:
        """Return how many things a deploy would see to; a host that has had none yet counts as one."""
        return len(self.pending) or int(self.state in ("new", "differs"))

    def to_json(self, diff: bool) -> dict[str, Any]:
        """Return the host as ``plan --json`` promises it; what changed inside files only with ``diff``."""
        shown = asdict(self)
        del shown["leftovers"]  # they stand among the drift
        for one in shown["drift"]:
            one["diff"] = one["diff"] if diff else None
        return {**shown, "changes": self.changes}


@dataclass(frozen=True)
class Plan:
    """The plan of the selected hosts. ``given`` are their inputs, as they were when the hosts were read."""

    hosts: tuple[HostPlan, ...]
    given: Mapping[str, Inputs]

    @property
    def changes(self) -> int:
        """Return the number of pending changes."""
        return sum(host.changes for host in self.hosts)

    def replaced(self, hosts: Iterable[HostPlan]) -> Plan:
        """Return the plan with newer ones of some of its hosts."""
        newer = {host.name: host for host in hosts}
        return replace(self, hosts=tuple(newer.get(host.name, host) for host in self.hosts))

    @property
    def readable(self) -> bool:
        """Tell whether every host could be read."""
        return not any(host.error for host in self.hosts)


OnHost = Callable[[HostPlan], None]


def plan(inventory: Path, limit: str | None, on_host: OnHost = lambda _host: None) -> Plan:
    """Return what differs on the selected hosts; ``on_host`` hears of each as soon as it is known.

    Raises:
        UsageError: the inventory is wrong, or the limit matches no host.
    """
    fleet = load_fleet(inventory)
    return plan_hosts(fleet, select(fleet, limit), on_host)


def plan_hosts(
    fleet: Fleet,
    selected: list[Host],
    on_host: OnHost = lambda _host: None,
    after: Future[None] | None = None,
) -> Plan:
    """Return what differs on hosts; the miners of executors are asked along. None is looked at before ``after``."""
    asked = {host.name: _asked_for(fleet, host) for host in selected}
    waiting: dict[str, list[Host]] = {name: [] for names in asked.values() for name in names}
    for host in selected:
        for name in asked[host.name]:
            waiting[name].append(host)
    given = functools.cache(lambda: inputs(selected))  # asked for when the hosts are at work
    sights: dict[str, Sight] = {}
    registries: dict[str, Mapping[Endpoint, Registration]] = {}
    plans: dict[str, HostPlan] = {}

    def see(name: str, sight: Sight) -> None:
        sights[name] = sight
        if sight.registry is not None:
            registries[name] = by_endpoint(sight.registry)
        for host in waiting[name]:
            if all(one in sights for one in asked[host.name]):
                found = judge(fleet, host, sights[host.name], registries, given()[host.name])
                # A miner that is selected itself says itself that it cannot be asked.
                plans[host.name] = found if host.miner in asked else _with_miner(found, host.miner or "", sights)
                on_host(plans[host.name])

    wanted = [fleet.hosts[name] for name in waiting]
    for host in wanted:
        if not host.connection.is_ours:
            see(host.name, _unseen(host))
    probe([host for host in wanted if host.connection.is_ours], on_sight=see, after=after)
    return Plan(tuple(plans[host.name] for host in selected), given())


def _asked_for(fleet: Fleet, host: Host) -> list[str]:
    """Return the names of the hosts that are asked for the plan of one: itself, and its miner."""
    return [host.name, *([host.miner] if host.miner in fleet.hosts else [])]


def _with_miner(host: HostPlan, miner: str, sights: Mapping[str, Sight]) -> HostPlan:
    """Return the plan of a host with what cannot be known of it because its miner is silent."""
    if miner not in sights or sights[miner].registry is not None:
        return host
    error = f"the registry of {miner} cannot be read: {'; '.join(sights[miner].errors) or 'no reason given'}"
    return replace(host, error="; ".join(part for part in (host.error, error) if part))


def _unseen(host: Host) -> Sight:
    """Return what we see of a host to which only Ansible knows the way: nothing, and not that of another machine."""
    return Sight(False, errors=(f"only Ansible can reach it (ansible_connection: {host.connection.plugin})",))


def judge(fleet: Fleet, host: Host, sight: Sight, registries: Registries, given: Inputs) -> HostPlan:
    """Return the plan of one host; pure.

    A host is converged when its record holds for these very inputs and everything in it is still as recorded.
    """
    errors = "; ".join(sight.errors) or None
    if not sight.reachable:
        rentals, waits_for = (None if host.role == "executor" else ()), _waits_for(host, sight)
        return HostPlan(host.name, host.role, "unreachable", rentals=rentals, waits_for=waits_for, error=errors)
    rows, error = registries.get(host.miner or ""), sight.record_error
    drift: list[Drift] = []
    state: State = "differs" if error else "new"
    if sight.record:
        drift = [*_inputs(host, sight.record, given), *(drifted(one) for one in sight.record.drift)]
        drift += [
            Drift(one.kind, one.name, f"{one.why} when no tenant has the host any more") for one in sight.record.waits
        ]
        drift += _registration(fleet, host, rows)
        error = None if drift else errors  # without Docker, say, much cannot be read, and that is no news
        state = "differs" if drift or error else "converged"
    leftovers = leftovers_of(fleet, host.name, registries.get(host.name, ()))
    registered = None if rows is None else host.endpoint in rows
    waits_for = _waits_for(host, sight)
    return HostPlan(
        name=host.name,
        role=host.role,
        state=state,
        drift=(*drift, *(Drift("leftover", row_name(one), _LEFTOVER) for one in leftovers)),
        effects=tuple(_effects(drift, waits_for, registered)),
        rentals=sight.rentals if host.role == "executor" else (),
        registered=registered,
        leftovers=tuple(leftovers),
        waits=sight.record.waits if sight.record else (),
        waits_for=waits_for,
        error=error,
    )


def _inputs(host: Host, record: Record, given: Inputs) -> Iterable[Drift]:
    if record.seal is None:
        why = "the last run was ended early, or was a playbook alone: what it was given is not known"
        yield Drift("input", "(all)", why)
        return
    before = record.seal["digests"]
    for name in changed(given, record.seal):
        verb = "is gone" if name not in given else "has changed" if name in before else "is new"
        file, line = host.origins.get(name, (None, None))
        yield Drift("input", name, f"{verb} since the last apply{f' ({file}:{line})' if file and line else ''}")


def _registration(fleet: Fleet, host: Host, rows: Mapping[Endpoint, Registration] | None) -> Iterable[Drift]:
    if rows is not None:
        for problem in registry_problems(fleet, host, rows.get(host.endpoint)):
            yield Drift("registration", row_name(host.endpoint), problem)
        for problem in refused_validator(fleet, host, rows.get(host.endpoint)):
            yield Drift("validator", row_name(host.endpoint), f"{problem}; {REFUSED_REMEDY}")


def registry_problems(fleet: Fleet, host: Host, row: Registration | None) -> list[str]:
    """Return what is wrong with the row of an executor at its miner, one line each; pure."""
    if row is None:
        return [f"not registered at {host.miner}"]
    # Dialect lium has one validator for all executors of a miner; dialect celium keeps the price at the executor.
    if host.lium:
        only = fleet.hosts[host.miner or ""].values.get("miner_default_validator")
        pairs = [(host.values.get("executor_price"), row.price), (only, row.validator)]
    else:
        pairs = [(host.values.get("executor_validator"), row.validator)]
    return [
        f"registered for {kept}, the inventory says {wanted}" for wanted, kept in pairs if wanted not in (None, kept)
    ]


def refused_validator(fleet: Fleet, host: Host, row: Registration | None) -> list[str]:
    """Return what is wrong where a row serves a validator that its miner does not accept, one line; pure.

    A deploy leaves such a row alone: only the operator knows whether the row or the miner is to change. Where the
    inventory names the miner's validator, the row is compared with that one.
    """
    miner = fleet.hosts[host.miner or ""]
    if row is None or not host.lium or miner.values.get("miner_default_validator"):
        return []
    if miner.accepts in (None, row.validator):
        return []
    return [f"registered for {row.validator}, which {miner.name} does not accept: it accepts {miner.accepts} only"]


_NEW = "is there, and was not"
_LEFTOVER = "its registry has it and no host of the inventory does; deploy --prune would remove it"


def drifted(found: Mapping[str, Any]) -> Drift:
    """Return a difference that a host told of, in words; pure."""
    before, after = found["before"], found["after"]
    if after is None and before is not None and "diff" not in found:
        why = "is gone"
    elif before is None and after is not None:
        why = _NEW
    elif "fields" in found:
        parts = [f"{key} is {_word(after[key])}, was {_word(before[key])}" for key in found["fields"]]
        parts += [f"{', '.join(found['variables'])} changed"] if found.get("variables") else []
        parts += ["its content changed"] if found.get("content") and not found.get("variables") else []
        why = "; ".join(parts)
    elif "diff" in found:
        why = "its rules changed" if found["kind"] == "firewall" else "its content changed"
    else:
        why = f"is {_word(after)}, was {_word(before)}"
    return Drift(found["kind"], found["name"], why, found.get("diff"))


def _word(value: Any) -> str:
    return (
        "nothing"
        if value is None
        else ", ".join(map(str, value)) or "nothing"
        if isinstance(value, list)
        else str(value)
    )


_READ_BY_DOCKER = tuple(
    f"nvidia_docker_{name}" for name in ("address_pools", "daemon_", "disk", "insecure_", "sysbox", "toolkit")
)
"""What inputs that end up in Docker's file begin with."""
_OF_THE_DRIVER = ("nvidia_docker_driver_", "nvidia_docker_reboot", "NVIDIA driver")


def _docker_restarts(one: Drift) -> bool:
    """Tell whether a difference makes Docker restart; pure."""
    if one.kind == "input":
        return one.name.startswith(_READ_BY_DOCKER)
    return one.name == "/etc/docker/daemon.json" or (one.name == "docker.service" and "configuration" in one.why)


_WELCOME = "its GPUs prove themselves, where that is asked for, and its miner registers it"
_MOVES = "its row at its miner changes"


def _waits_for(host: Host, sight: Sight) -> str | None:
    """Return for what a change of the stack or of Docker waits on a host; null where nothing makes it wait; pure."""
    if host.role != "executor" or host.values.get("celium_even_if_rented"):
        return None
    if sight.rentals is None:
        return f"waits: it cannot be told whether a tenant has {host.name}"
    return f"waits for the tenant of {host.name}: {', '.join(sight.rentals)}" if sight.rentals else None


def _effects(drift: list[Drift], waits: str | None, registered: bool | None) -> Iterable[str]:
    rented = f"; {waits}" if waits else ""
    kinds, inputs_ = {one.kind for one in drift}, {one.name for one in drift if one.kind == "input"}
    if any(map(_docker_restarts, drift)):
        yield f"Docker restarts{rented}"
    if any(one.name.startswith(_OF_THE_DRIVER) for one in drift):
        yield f"the NVIDIA driver changes, with a reboot if that needs one and nvidia_docker_reboot allows it{rented}"
    containers = sorted((one.why == _NEW, one.name) for one in drift if one.kind == "container")
    for too_many, verb in ((False, "made or started"), (True, "removed")):
        if names := list(dict.fromkeys(name for is_new, name in containers if is_new is too_many)):
            yield f"containers are {verb}: {', '.join(names)}{rented}"
    files = any(one.kind == "file" and one.name.endswith((".env", "/compose.yml")) for one in drift)
    if files or any(name.startswith(("executor_", "miner_", "validator_", "celium_", "(")) for name in inputs_):
        yield f"containers whose environment or configuration differs are made anew{rented}"
    stopped = any(one.name == "celium-firewall.service" and "active is" in one.why for one in drift)
    if stopped or "firewall" in kinds or any(name.startswith("firewall_") for name in inputs_):
        yield f"the firewall is loaded anew{rented}"
    if "registration" in kinds:
        yield _MOVES if registered else _WELCOME
