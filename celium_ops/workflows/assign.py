"""Executors follow the stake: read the chain and the registries, work out the best assignment, apply it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from celium_ops.assignment.model import Move, Plan, Row, Validator
from celium_ops.assignment.solve import solve
from celium_ops.base.errors import CeliumError, GuardError, UsageError
from celium_ops.chain import guards, reader, snapshot
from celium_ops.chain.eligible import judge, rules_of
from celium_ops.chain.snapshot import Snapshot
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.registry.rows import Endpoint, Registration, by_endpoint, row_name
from celium_ops.remote.collateral import Amounts, collaterals
from celium_ops.remote.probe import Sight, probe
from celium_ops.workflows.candidates import Candidates, candidates, elsewhere
from celium_ops.workflows.chain import find_source
from celium_ops.workflows.collateral import keeping_collateral, unread_warnings
from celium_ops.workflows.proofs import last_reports, objection

REGISTRY_MODULE = "celium.ops.miner_registry"
UNREGISTERED = "unregistered"
"""What the registry module is told of an executor that had no row."""
TOO_MANY = "too-many-moves"
FEW = 10
"""So many moves are never too many at once, however small the fleet."""


@dataclass(frozen=True)
class Wish:
    """What the operator asked for.

    ``network`` overrides the inventory's and may be a snapshot file; ``override`` are the codes of guards to ignore;
    ``seconds`` is how long to read the chain at most.
    """

    inventory: Path
    network: str | None = None
    even_if_rented: bool = False
    override: frozenset[str] = frozenset()
    seconds: float = reader.SECONDS


@dataclass(frozen=True)
class MinerPlan:
    """What becomes of the executors of one miner."""

    miner: Host
    candidates: Candidates
    plan: Plan
    warnings: tuple[str, ...] = ()

    @property
    def moves(self) -> tuple[Move, ...]:
        """Return what is to change in its registry."""
        return self.plan.moves

    @property
    def too_many(self) -> str | None:
        """Return why so many moves at once are suspicious; None when they are not."""
        registered = sum(row.current is not None for row in self.candidates.rows)
        switches = sum(move.action == "switch" for move in self.moves)
        limit = int(self.miner.values["miner_assign_max_moves"])
        if switches <= FEW or switches * 100 <= limit * registered:
            return None
        return f"{switches} of {registered} executors of {self.miner.name} would move at once, more than {limit} %"


@dataclass(frozen=True)
class Assignment:
    """The plans of all miners, made from one reading of the chain."""

    snapshot: Snapshot
    miners: tuple[MinerPlan, ...]

    @property
    def moves(self) -> list[tuple[MinerPlan, Move]]:
        """Return every change of every registry."""
        return [(miner, move) for miner in self.miners for move in miner.moves]

    @property
    def warnings(self) -> list[str]:
        """Return the warnings of all miners' plans."""
        return [f"{miner.miner.name}: {warning}" for miner in self.miners for warning in miner.warnings]

    @cached_property
    def validators(self) -> list[dict[str, Any]]:
        """Return what each validator has of the whole fleet, the most stake first."""
        found: dict[str, dict[str, Any]] = {}
        for share in (share for miner in self.miners for share in miner.plan.validators):
            entry = found.setdefault(
                share.hotkey,
                {
                    "hotkey": share.hotkey,
                    "stake_share": float(share.stake_share),
                    "eligible": share.why_not is None,
                    "why_not": share.why_not,
                    "executors_before": 0,
                    "executors_after": 0,
                },
            )
            entry["executors_before"] += share.executors_before
            entry["executors_after"] += share.executors_after
        return sorted(found.values(), key=lambda entry: (-entry["stake_share"], entry["hotkey"]))

    def coverage(self, when: str) -> float:
        """Return the share of all permit holders' stake that the fleet serves, ``before`` or ``after``."""
        served = (one for one in self.validators if one["eligible"] and one[f"executors_{when}"])
        return float(sum(one["stake_share"] for one in served))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as ``assign plan --json`` promises it."""
        return {
            "network": self.snapshot.network,
            "netuid": self.snapshot.netuid,
            "block": self.snapshot.block,
            "block_time": self.snapshot.block_time.isoformat(),
            "coverage": {"before": self.coverage("before"), "after": self.coverage("after")},
            "validators": self.validators,
            "miners": [_miner_json(miner) for miner in self.miners],
            "moves": [move_json(miner, move) for miner, move in self.moves],
        }


def _miner_json(miner: MinerPlan) -> dict[str, Any]:
    plan = miner.plan
    return {
        "name": miner.miner.name,
        "coverage": {
            "before": float(plan.coverage_before),
            "after": float(plan.coverage_after),
            "wanted": float(plan.coverage_wanted),
            "reachable": float(plan.coverage_reachable),
        },
        "validators": [
            {
                "hotkey": share.hotkey,
                "stake_share": float(share.stake_share),
                "due": float(share.due),
                "executors_before": share.executors_before,
                "executors_after": share.executors_after,
            }
            for share in plan.validators
        ],
        "held_back": plan.held_back,
        "gap": float(plan.gap),
        "leftovers": list(miner.candidates.leftovers),
        "waiting": dict(miner.candidates.waiting),
        "locked": {row.executor: row.lock for row in miner.candidates.rows if row.lock},
        "warnings": list(miner.warnings),
    }


def move_json(miner: MinerPlan, move: Move) -> dict[str, Any]:
    """Return one move as ``assign plan --json`` and ``assign apply --json`` promise it."""
    host = miner.candidates.hosts.get(move.executor)
    return {
        "miner": miner.miner.name,
        "host": host.name if host else None,
        "executor": move.executor,
        "from": move.from_,
        "to": move.to,
        "action": move.action,
        "why": move.why,
    }


def plan(wish: Wish) -> Assignment:
    """Work out the best assignment; nothing is changed.

    Raises:
        UsageError: the inventory is wrong, or has no miner.
        CeliumError: the chain cannot be read.
        GuardError: what was read is not safe to act on.
    """
    fleet = load_fleet(wish.inventory)
    miners = fleet.of_role("miner")
    if not miners:
        raise UsageError(
            "the inventory has no miner, so there is no registry to assign in", remedy="add one to the group miners"
        )
    executors = [host for miner in miners for host in fleet.executors_of(miner.name)]
    with ThreadPoolExecutor(1) as beside:  # the hosts are asked while the chain is read
        looking = beside.submit(probe, [*miners, *executors])
        read = reading(wish)
        sights = looking.result()
    return Assignment(read, tuple(_plan_of(fleet, miner, read, sights, wish) for miner in miners))


def reading(wish: Wish) -> Snapshot:
    """Read the chain, make sure that it may be believed, and keep it as the last good reading.

    Raises:
        CeliumError: it cannot be read; the message tells of the last good reading.
        GuardError: it may not be believed; the same.
    """
    override = wish.override - {TOO_MANY}
    guards.check_override(override)
    source = find_source(wish.inventory, wish.network, None)
    kept = fleet_dir(wish.inventory) / "chain.json"
    # A file is what the operator chose, whatever its age.
    file = reader.is_file(source.network)
    before = snapshot.load(kept) if kept.exists() and not file else None
    try:
        found = guards.believe(
            lambda block: reader.read(source.network, source.netuid, block=block, seconds=wish.seconds),
            before,
            datetime.now(UTC),
            override=override | ({guards.STALE, guards.UNSETTLED} if file else set()),
        )
    except UsageError:
        raise
    except CeliumError as error:
        if before:
            error.message += f"; the last good reading is of block {before.block}, {ago(before.block_time)}"
        raise
    if not file:
        snapshot.save(found, kept)
    return found


def ago(moment: datetime) -> str:
    """Return how long ago something was, in words."""
    minutes = int((datetime.now(UTC) - moment).total_seconds() / 60)
    if minutes < 2:
        return "just now"
    return f"{minutes} minutes ago" if minutes < 120 else f"{minutes // 60} hours ago"


def _plan_of(fleet: Fleet, miner: Host, read: Snapshot, sights: dict[str, Sight], wish: Wish) -> MinerPlan:
    registry = _registry(miner, sights[miner.name])
    values = miner.values
    executors = fleet.executors_of(miner.name)
    newcomers = [host for host in executors if host.endpoint not in registry]
    unproven = _unproven(wish.inventory, newcomers) | elsewhere(newcomers, sights)
    found = candidates(executors, registry, sights, wish.even_if_rented, unproven=unproven)
    judged, hysteresis = validators(miner, read), Fraction(str(values["miner_assign_hysteresis"]))

    def best(rows: Sequence[Row]) -> Plan:
        return solve(rows, judged, _coverage(miner), hysteresis)

    def amounts(moving: list[str]) -> Amounts:
        named = {row_name(endpoint): row for endpoint, row in registry.items()}
        rows = (named[name] for name in moving)
        asked = [{"address": row.address, "port": row.port, "uuid": row.uuid} for row in rows]
        return collaterals(miner.connection, asked)

    if miner.lium or not values["miner_assign_keep_collateral"]:
        return MinerPlan(miner, found, best(found.rows))
    kept = keeping_collateral(found.rows, best, amounts)
    names = {row: host.name for row, host in found.hosts.items()}
    warnings = tuple(unread_warnings(kept.unread, names))
    return MinerPlan(miner, replace(found, rows=kept.rows), kept.plan, warnings)


def _unproven(inventory: Path, newcomers: list[Host]) -> dict[str, str]:
    """Return which executors may not be registered as their GPUs have not proven themselves, and why."""
    if not newcomers:
        return {}
    reports = last_reports(inventory, newcomers)
    found = {host.name: objection(host, reports.get(host.name)) for host in newcomers}
    return {name: f"{why}; celium-ops deploy lets them" for name, why in found.items() if why}


def _registry(miner: Host, sight: Sight) -> dict[Endpoint, Registration]:
    if sight.registry is None:
        raise GuardError(
            f"its registry cannot be read: {'; '.join(sight.errors) or 'no reason given'}",
            host=miner.name,
            remedy="celium-ops status; nothing was changed, for without the registry nobody knows what to move",
            code="registry-unreadable",
        )
    return by_endpoint(sight.registry)


def validators(miner: Host, read: Snapshot) -> list[Validator]:
    """Return the permit holders as a miner sees them: its thresholds, its lists, its dialect; pure."""
    return [
        Validator(one.neuron.hotkey, one.neuron.total_stake, ", ".join(one.reasons) or None)
        for one in judge(read, rules_of(miner.values))
        if one.neuron.validator_permit
    ]


def additions(fleet: Fleet, newcomers: list[Host], beside: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return executors that came up as the registry module takes them, each with the validator the stake asks for.

    Whoever is registered stays where it is, to move is for ``apply``; likewise those that are registered ``beside``.

    Raises:
        CeliumError: the chain cannot be read.
        GuardError: it, or a registry, is not safe to act on.
    """
    read = reading(Wish(fleet.inventory))
    miners = [fleet.host(name) for name in sorted({host.miner for host in newcomers if host.miner})]
    sights = probe(miners)
    found = []
    for miner in miners:
        registry = _registry(miner, sights[miner.name])
        own = {row_name(host.endpoint): host for host in newcomers if host.miner == miner.name}
        stay = {endpoint: (one.validator, "it is registered") for endpoint, one in registry.items()}
        pinned = [one for one in beside if one["miner"] == miner.name]
        stay |= {(one["address"], one["port"]): (one["validator"], "it is pinned") for one in pinned}
        weights = {host.endpoint: int(host.values["executor_weight"]) for host in fleet.executors_of(miner.name)}
        rows = [Row(row_name(endpoint), *stay[endpoint], weight=weights.get(endpoint, 1)) for endpoint in stay]
        rows += [Row(name, weight=weights[host.endpoint]) for name, host in own.items()]
        best = MinerPlan(miner, Candidates(tuple(rows), own), solve(rows, validators(miner, read), _coverage(miner)))
        found += [wanted(best, move) for move in best.moves]
    return found


def _coverage(miner: Host) -> Fraction:
    return Fraction(int(miner.values["miner_assign_coverage"]), 100)


def wanted(miner: MinerPlan, move: Move) -> dict[str, Any]:
    """Return a move as the registry module takes it; ``expected`` is what the plan saw, so nobody's change is lost."""
    expected = move.from_ or UNREGISTERED
    host = miner.candidates.hosts.get(move.executor)
    if host:
        return {**registration(host, move.to), "expected": expected}
    address, _, port = move.executor.rpartition(":")
    place = {"name": move.executor, "miner": miner.miner.name, "address": address, "port": int(port)}
    return {**place, "validator": move.to, "price": None, "expected": expected}


def registration(host: Host, validator: str | None, rentals: Iterable[str] = ()) -> dict[str, Any]:
    """Return an executor as the registry module takes it, to serve a validator, or the one it has.

    While it is rented it keeps the one it has, unless the inventory says that it need not.
    """
    return {
        "name": host.name,
        "miner": host.miner,
        "address": host.endpoint[0],
        "port": host.endpoint[1],
        "validator": validator,
        "price": host.values.get("executor_price"),
        "rented": [] if host.values.get("celium_even_if_rented") else list(rentals),
    }
