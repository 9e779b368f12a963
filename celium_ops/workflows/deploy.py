"""Bring the fleet to what the inventory says: roles on every host, then the executors into their miners' registries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celium_ops.base.errors import GuardError, UsageError
from celium_ops.fleet.inventory import ROLES, load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal
from celium_ops.remote.ssh import why
from celium_ops.runner.playbook import OnHost, Playbook, run_playbook
from celium_ops.runner.recap import HostRecap, Recap
from celium_ops.workflows.faults import recognise
from celium_ops.workflows.lock import fleet_locked

REGISTRY_MODULE = "celium.ops.miner_registry"


@dataclass(frozen=True)
class Wish:
    """What the operator asked for."""

    inventory: Path
    limit: str | None = None
    check: bool = False
    diff: bool = False
    accept_outdated: bool = False


@dataclass
class HostOutcome:
    """What became of one host.

    ``registered`` is null where it does not apply or nobody could tell; ``remedy`` says what to do about a known fault.
    """

    name: str
    result: str
    changed: int = 0
    seconds: float = 0.0
    error: str | None = None
    remedy: str | None = None
    registered: bool | None = None
    changes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the host as ``deploy --json`` promises it."""
        return {**vars(self), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class Deployment:
    """A finished run over all selected hosts."""

    run: str
    hosts: list[HostOutcome]

    @property
    def ok(self) -> bool:
        """Tell whether every selected host is as the inventory says."""
        return all(host.result in ("ok", "skipped") for host in self.hosts)

    @property
    def changed(self) -> int:
        """Return the number of changes, or in check mode of pending ones."""
        return sum(host.changed for host in self.hosts)


def deploy(
    wish: Wish, on_start: Callable[[list[Host]], None], on_host: OnHost, warn: Callable[[str], None]
) -> Deployment:
    """Deploy the selected hosts.

    Raises:
        UsageError: the inventory is wrong, or the limit matches no host; nothing was touched.
        GuardError: another deploy is under way, or the inventory's dialect cannot work on its chain.
        CeliumError: Ansible did not run at all.
        KeyboardInterrupt: ctrl-c.
    """
    fleet = load_fleet(wish.inventory)
    selected = select(fleet, wish.limit)
    _refuse_outdated(wish, selected)
    state = fleet_dir(wish.inventory)
    # A check changes nothing, so it need not wait for anybody.
    with nullcontext() if wish.check else fleet_locked(fleet, state, "a deploy", warn):
        on_start(selected)
        return _journaled(Journal(state), wish, selected, on_host)


def _refuse_outdated(wish: Wish, selected: list[Host]) -> None:
    outdated = [host.name for host in selected if host.outdated]
    if outdated and not wish.accept_outdated:
        raise GuardError(
            f"the images of dialect celium cannot read today's main chain (finney): {', '.join(outdated)}",
            remedy="set celium_dialect: lium, or give --accept-outdated if you know what you do",
            code="outdated-dialect",
        )


def _journaled(journal: Journal, wish: Wish, selected: list[Host], on_host: OnHost) -> Deployment:
    inputs = {"inventory": str(wish.inventory), "limit": wish.limit, "check": wish.check}
    run, seen = journal.begin("deploy", inputs), dict[str, HostRecap]()

    def note(host: HostRecap) -> None:
        seen[host.name] = host
        on_host(host)

    try:
        deployment = Deployment(run, _play(wish, selected, note))
    except BaseException as error:
        begun = (HostEntry(host.name, "interrupted", host.changed, host.seconds, host.task) for host in seen.values())
        journal.finish(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", begun)
        raise
    entries = (HostEntry(host.name, host.result, host.changed, host.seconds, host.error) for host in deployment.hosts)
    journal.finish(run, "ok" if deployment.ok else "failed", entries)
    return deployment


def _play(wish: Wish, selected: list[Host], on_host: OnHost) -> list[HostOutcome]:
    names = tuple(host.name for host in selected)
    recap = run_playbook(Playbook("site", wish.inventory, names, wish.check, wish.diff), on_host)
    outcomes = {host.name: _outcome(host.name, recap, wish.diff) for host in selected}
    _note_registrations(recap, selected, outcomes)
    absent = _miners_outside(selected, outcomes)
    if absent:
        recap = _register(wish, absent, on_host)
        outcomes |= {name: _outcome(name, recap, wish.diff) for name in absent}
        _note_registrations(recap, selected, outcomes)
    return list(outcomes.values())


def select(fleet: Fleet, limit: str | None) -> list[Host]:
    """Return the hosts that a limit names: hosts, roles' groups, or patterns like gpu-*, separated by commas; pure.

    Raises:
        UsageError: a part of the limit matches nothing.
    """
    if limit is None:
        return list(fleet.hosts.values())
    from fnmatch import fnmatchcase

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


def _outcome(name: str, recap: Recap, diff: bool) -> HostOutcome:
    host = recap.hosts.get(name)
    if host is None:
        words = recap.messages[-1] if recap.messages else "Ansible ended early"
        return HostOutcome(name, "failed", error=f"was never reached: {words}")
    outcome = HostOutcome(name, host.result or "failed", host.changed, host.seconds, host.error)
    if host.result == "unreachable" and host.error:
        outcome.error = why(host.error)
    if fault := recognise(outcome.error or ""):
        outcome.error, outcome.remedy = f"{fault.cause}: {outcome.error}", fault.remedy
    outcome.changes = host.changes
    outcome.differences = host.differences if diff else []
    return outcome


def _miners_outside(selected: list[Host], outcomes: dict[str, HostOutcome]) -> dict[str, list[Host]]:
    """Return the miners that a limit left out although executors of theirs came up, with those executors."""
    inside = {host.name for host in selected}
    absent: dict[str, list[Host]] = {}
    for host in selected:
        came_up = host.role == "executor" and outcomes[host.name].result == "ok"
        if came_up and host.can_be_registered and host.miner and host.miner not in inside:
            absent.setdefault(host.miner, []).append(host)
    return absent


def _register(wish: Wish, absent: dict[str, list[Host]], on_host: OnHost) -> Recap:
    executors = [
        {
            "name": host.name,
            "miner": host.miner,
            "address": host.endpoint[0],
            "port": host.endpoint[1],
            "validator": host.values.get("executor_validator"),
            "price": host.values.get("executor_price"),
        }
        for hosts in absent.values()
        for host in hosts
    ]
    variables = {"miner_executors": executors}
    playbook = Playbook("register", wish.inventory, tuple(absent), wish.check, wish.diff, variables)
    return run_playbook(playbook, on_host)


def _note_registrations(recap: Recap, selected: list[Host], outcomes: dict[str, HostOutcome]) -> None:
    """Note for each executor what its miner's registry said; where the miner failed, that it is not registered."""
    for result in recap.outputs.get(REGISTRY_MODULE, {}).values():
        for executor in result.get("executors", []):
            if executor["name"] in outcomes:
                outcomes[executor["name"]].registered = executor["registered"]
    for host in selected:
        outcome, miner = outcomes[host.name], outcomes.get(host.miner or "")
        came_up = host.can_be_registered and outcome.result == "ok"
        if came_up and outcome.registered is None and miner and miner.result != "ok":
            outcome.registered = False
