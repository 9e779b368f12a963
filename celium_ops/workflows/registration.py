"""The executors that came up and are not in their miners' registries after the play: proven here, and registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from celium_ops.base.errors import CeliumError
from celium_ops.fleet.model import Fleet, Host
from celium_ops.registry.rows import row_name
from celium_ops.remote.probe import probe
from celium_ops.runner.recap import Recap
from celium_ops.workflows.assign import REGISTRY_MODULE, additions, registration
from celium_ops.workflows.candidates import elsewhere
from celium_ops.workflows.leftovers import leftovers_of
from celium_ops.workflows.outcomes import HostOutcome, outcome_of
from celium_ops.workflows.proofs import Report, objection

Outcomes = dict[str, HostOutcome]
Rows = list[dict[str, Any]]


class Register(Protocol):
    """Plays the registration of executors at their miners."""

    def __call__(self, records: Rows, absent: Rows, add: bool) -> Recap:
        """Register executors and remove rows, as the registry module takes them; ``add`` those that have no row."""


Prove = Callable[[list[Host]], Mapping[str, Report]]
"""Lets executors prove their GPUs."""


def register_the_rest(
    fleet: Fleet,
    selected: list[Host],
    outcomes: Outcomes,
    played: Recap,
    register: Register,
    prove: Prove | None,
    rentals: Mapping[str, Sequence[str]],
) -> None:
    """Register the executors that came up in a play and that their miners did not register in it.

    Those are the executors of miners that were not played with them, those that needed no play while their miner could
    not be asked, those that have no validator yet, and, since new ones prove their GPUs first, all that have no row.
    What becomes of them and of their miners is noted in ``outcomes``. Without ``prove`` it is a check, which has
    nothing to prove or register: what would come up has not. ``rentals`` are the containers of tenants, by host.
    """
    note_registrations(fleet, played, selected, outcomes)
    alone = (host for host in selected if host.miner not in outcomes or host.name not in played.hosts)
    # One of which something waits for a tenant may not be where the inventory has it yet.
    outside = [host for host in alone if _came_up(host, outcomes) and not outcomes[host.name].waits]
    if outside:
        records = [
            registration(host, host.values.get("executor_validator"), rentals.get(host.name, ())) for host in outside
        ]
        _play(fleet, records, [], selected, outcomes, register, prove is None)
    come = (host for host in selected if not outcomes[host.name].waits)
    newcomers = [host for host in come if outcomes[host.name].unassigned or outcomes[host.name].missing]
    if newcomers and prove:
        welcome = _proven(_nowhere_else(fleet, newcomers, outcomes), outcomes, prove)
        records = _records(fleet, welcome, outcomes)
        absent = _absent(newcomers, welcome, outcomes)
        if records:
            _play(fleet, records, absent, selected, outcomes, register, True)


def _nowhere_else(fleet: Fleet, newcomers: list[Host], outcomes: Outcomes) -> list[Host]:
    """Return those that no other miner of the fleet has in its registry."""
    others = [miner for miner in fleet.of_role("miner") if {host.miner for host in newcomers} != {miner.name}]
    taken = elsewhere(newcomers, probe(others)) if others else {}
    for name, why in taken.items():
        outcomes[name].add(HostOutcome(name, "failed", error=f"not registered, since {why}"))
    return [host for host in newcomers if host.name not in taken]


def _proven(newcomers: list[Host], outcomes: Outcomes, prove: Prove) -> list[Host]:
    """Return those that may be registered."""
    reports = prove(newcomers) if newcomers else {}
    for host in newcomers:
        outcome, report = outcomes[host.name], reports[host.name]
        outcome.proof = report["verdict"]
        if why := objection(host, report):
            outcome.add(HostOutcome(host.name, "failed", error=f"{why}; it is not registered", remedy=_NO_PROOF))
    return [host for host in newcomers if outcomes[host.name].result == "ok"]


def _absent(newcomers: list[Host], welcome: list[Host], outcomes: Outcomes) -> Rows:
    """Return the rows that may go now; where an executor is refused, those of its miner stay: one may be its own."""
    miners = {host.miner for host in welcome} - {host.miner for host in newcomers if host not in welcome}
    return [row for miner in miners if miner in outcomes for row in outcomes[miner].postponed]


_NO_PROOF = (
    "celium-ops gpu show HOST explains it; repair it and deploy again, or set executor_gpu_proof: advise to register "
    "what has not proven itself"
)


def _records(fleet: Fleet, newcomers: list[Host], outcomes: Outcomes) -> Rows:
    """Return newcomers as the registry module takes them, with the validators that the stake asks for."""
    records = [
        registration(host, host.values.get("executor_validator"))
        for host in newcomers
        if not outcomes[host.name].unassigned
    ]
    unassigned = [host for host in newcomers if outcomes[host.name].unassigned]
    try:
        return records + (additions(fleet, unassigned, records) if unassigned else [])
    except CeliumError as error:
        for miner in {host.miner for host in unassigned if host.miner}:
            names = ", ".join(host.name for host in unassigned if host.miner == miner)
            failed = HostOutcome(
                miner, "failed", error=f"no validator for {names}: {error.message}", remedy=error.remedy
            )
            outcomes.setdefault(miner, HostOutcome(miner, "ok")).add(failed)
        return records


def _play(
    fleet: Fleet,
    records: Rows,
    absent: Rows,
    selected: list[Host],
    outcomes: Outcomes,
    register: Register,
    add: bool,
) -> None:
    recap = register(records, absent, add)
    for miner in dict.fromkeys(record["miner"] for record in records):
        outcomes.setdefault(miner, HostOutcome(miner, "ok")).add(outcome_of(miner, recap))
    note_registrations(fleet, recap, selected, outcomes)


def note_registrations(fleet: Fleet, recap: Recap, selected: list[Host], outcomes: Outcomes) -> None:
    """Note what the miners' registries said of each executor, and of rows that no host of the inventory has.

    Where the miner failed, its executors are not registered.
    """
    for name, result in recap.outputs.get(REGISTRY_MODULE, {}).items():
        rows = [*result.get("others", []), *(one for one in result.get("absent", []) if one["registered"])]
        if (miner := outcomes.get(name)) and "others" in result:
            endpoints = ((row["address"], row["port"]) for row in rows)
            miner.postponed = [{**_where(one), "miner": name} for one in result.get("absent", []) if one["postponed"]]
            miner.leftovers = [row_name(endpoint) for endpoint in leftovers_of(fleet, name, endpoints)]
        for executor in result.get("executors", []):
            if outcome := outcomes.get(executor["name"]):
                outcome.registered = executor["registered"]
                outcome.unassigned, outcome.missing = executor["unassigned"], executor["missing"]
                outcome.refused = executor.get("refused", False)
    for host in selected:
        outcome, miner = outcomes[host.name], outcomes.get(host.miner or "")
        if _came_up(host, outcomes) and outcome.registered is None and miner and miner.result != "ok":
            outcome.registered = False


def _where(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the place of a row."""
    return {"address": row["address"], "port": row["port"]}


def _came_up(host: Host, outcomes: Outcomes) -> bool:
    return host.role == "executor" and bool(host.miner) and outcomes[host.name].result == "ok"
