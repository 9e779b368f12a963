"""Bring the fleet to what the inventory says: roles on every host, then the executors into their miners' registries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from celium_ops.base.errors import GuardError, UsageError
from celium_ops.fleet.inventory import ROLES, load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal
from celium_ops.runner.playbook import OnHost, Playbook, run_playbook
from celium_ops.runner.recap import HostRecap, Recap
from celium_ops.workflows.leftovers import find as find_leftovers
from celium_ops.workflows.lock import fleet_locked
from celium_ops.workflows.outcomes import HostOutcome, outcome_of
from celium_ops.workflows.registration import register_the_rest


@dataclass(frozen=True)
class Wish:
    """What the operator asked for."""

    inventory: Path
    limit: str | None = None
    check: bool = False
    diff: bool = False
    accept_outdated: bool = False
    prune: bool = False


Leftovers = list[dict[str, Any]]
"""Rows of registries that no host of the inventory has, as the registry module takes what it shall remove."""


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
    wish: Wish,
    agree: Callable[[Leftovers], None],
    on_start: Callable[[list[Host]], None],
    on_host: OnHost,
    warn: Callable[[str], None],
) -> Deployment:
    """Deploy the selected hosts.

    ``agree`` is shown the rows to remove before anything is changed, and raises when they are to stay.

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
        leftovers = find_leftovers(fleet, selected) if wish.prune else []
        if leftovers and not wish.check:
            agree(leftovers)
        on_start(selected)
        return _journaled(Journal(state), wish, lambda note: _play(wish, fleet, selected, leftovers, note), on_host)


def _refuse_outdated(wish: Wish, selected: list[Host]) -> None:
    outdated = [host.name for host in selected if host.outdated]
    if outdated and not wish.accept_outdated:
        raise GuardError(
            f"the images of dialect celium cannot read today's main chain (finney): {', '.join(outdated)}",
            remedy="set celium_dialect: lium, or give --accept-outdated if you know what you do",
            code="outdated-dialect",
        )


def _journaled(
    journal: Journal, wish: Wish, play: Callable[[OnHost], list[HostOutcome]], on_host: OnHost
) -> Deployment:
    inputs = {"inventory": str(wish.inventory), "limit": wish.limit, "check": wish.check, "prune": wish.prune}
    run, seen = journal.begin("deploy", inputs), dict[str, HostRecap]()

    def note(host: HostRecap) -> None:
        seen[host.name] = host
        on_host(host)

    try:
        deployment = Deployment(run, play(note))
    except BaseException as error:
        begun = (HostEntry(host.name, "interrupted", host.changed, host.seconds, host.task) for host in seen.values())
        journal.finish(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", begun)
        raise
    entries = (HostEntry(host.name, host.result, host.changed, host.seconds, host.error) for host in deployment.hosts)
    journal.finish(run, "ok" if deployment.ok else "failed", entries)
    return deployment


def _play(wish: Wish, fleet: Fleet, selected: list[Host], leftovers: Leftovers, on_host: OnHost) -> list[HostOutcome]:
    def play(name: str, hosts: Iterable[str], variables: dict[str, Any] | None = None) -> Recap:
        playbook = Playbook(name, wish.inventory, tuple(hosts), wish.check, wish.diff, variables)
        return run_playbook(playbook, on_host)

    def register(records: list[dict[str, Any]]) -> Recap:
        return play("register", dict.fromkeys(one["miner"] for one in records), {"miner_executors": records})

    recap = play("site", (host.name for host in selected), {"miner_absent": leftovers} if leftovers else None)
    outcomes = {host.name: outcome_of(host.name, recap) for host in selected}
    register_the_rest(fleet, selected, outcomes, recap, register, wish.check)
    # Modules of ours tell what they change whether they are asked to or not.
    return [outcome if wish.diff else replace(outcome, differences=[]) for outcome in outcomes.values()]


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
