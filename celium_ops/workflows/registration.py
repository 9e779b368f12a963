"""The executors that came up and are not in their miners' registries after the play: registered here, by the stake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celium_ops.base.errors import CeliumError
from celium_ops.fleet.model import Fleet, Host
from celium_ops.runner.recap import Recap
from celium_ops.workflows.assign import REGISTRY_MODULE, additions, registration
from celium_ops.workflows.candidates import row_name
from celium_ops.workflows.leftovers import leftovers_of
from celium_ops.workflows.outcomes import HostOutcome, outcome_of

Outcomes = dict[str, HostOutcome]
Register = Callable[[list[dict[str, Any]]], Recap]
"""Plays the registration of executors, as the registry module takes them, at their miners."""


def register_the_rest(
    fleet: Fleet, selected: list[Host], outcomes: Outcomes, played: Recap, register: Register, check: bool
) -> None:
    """Register the executors that came up in a play and that their miners could not register in it.

    Those are the executors of miners outside the limit, and those that have no validator yet. What becomes of them and
    of their miners is noted in ``outcomes``.
    """
    note_registrations(fleet, played, selected, outcomes)
    outside = [host for host in selected if _came_up(host, outcomes) and host.miner not in outcomes]
    if outside:
        records = [registration(host, host.values.get("executor_validator")) for host in outside]
        _play(fleet, records, selected, outcomes, register)
    newcomers = [host for host in selected if outcomes[host.name].unassigned]
    # A check has nothing to register: what would come up has not.
    if newcomers and not check:
        _assign(fleet, newcomers, selected, outcomes, register)


def _assign(fleet: Fleet, newcomers: list[Host], selected: list[Host], outcomes: Outcomes, register: Register) -> None:
    try:
        records = additions(fleet, newcomers)
    except CeliumError as error:
        for miner in {host.miner for host in newcomers if host.miner}:
            names = ", ".join(host.name for host in newcomers if host.miner == miner)
            failed = HostOutcome(
                miner, "failed", error=f"no validator for {names}: {error.message}", remedy=error.remedy
            )
            outcomes.setdefault(miner, HostOutcome(miner, "ok")).add(failed)
    else:
        _play(fleet, records, selected, outcomes, register)


def _play(
    fleet: Fleet, records: list[dict[str, Any]], selected: list[Host], outcomes: Outcomes, register: Register
) -> None:
    recap = register(records)
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
            miner.leftovers = [row_name(endpoint) for endpoint in leftovers_of(fleet, name, endpoints)]
        for executor in result.get("executors", []):
            if outcome := outcomes.get(executor["name"]):
                outcome.registered, outcome.unassigned = executor["registered"], executor["unassigned"]
    for host in selected:
        outcome, miner = outcomes[host.name], outcomes.get(host.miner or "")
        if _came_up(host, outcomes) and outcome.registered is None and miner and miner.result != "ok":
            outcome.registered = False


def _came_up(host: Host, outcomes: Outcomes) -> bool:
    return host.role == "executor" and bool(host.miner) and outcomes[host.name].result == "ok"
