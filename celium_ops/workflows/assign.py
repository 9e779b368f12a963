"""Executors follow the stake: read the chain and the registries, work out the best assignment, apply it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from celium_ops.assignment.model import Move, Plan, Validator
from celium_ops.assignment.solve import solve
from celium_ops.base.errors import CeliumError, GuardError, UsageError
from celium_ops.chain import guards, reader, snapshot
from celium_ops.chain.eligible import judge, rules_of
from celium_ops.chain.snapshot import Snapshot
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Fleet, Host
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal, Run
from celium_ops.registry.rows import Endpoint, Registration, by_endpoint
from celium_ops.remote.probe import Sight, probe
from celium_ops.runner.playbook import OnHost, Playbook, run_playbook
from celium_ops.workflows.candidates import Candidates, candidates, row_name
from celium_ops.workflows.chain import find_source
from celium_ops.workflows.lock import fleet_locked

COMMAND = "assign apply"
REGISTRY_MODULE = "celium.ops.miner_registry"
UNREGISTERED = "unregistered"
"""What the registry module is told of an executor that had no row."""
TOO_MANY = "too-many-moves"
FEW = 10
"""So many moves are never too many at once, however small the fleet."""


@dataclass(frozen=True)
class Wish:
    """What the operator asked for.

    ``network`` overrides the inventory's and may be a snapshot file; ``override`` are the codes of guards to ignore.
    """

    inventory: Path
    network: str | None = None
    even_if_rented: bool = False
    override: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MinerPlan:
    """What becomes of the executors of one miner."""

    miner: Host
    candidates: Candidates
    plan: Plan

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
            "moves": [_move_json(miner, move) for miner, move in self.moves],
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
    }


def _move_json(miner: MinerPlan, move: Move) -> dict[str, Any]:
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
        looking = beside.submit(_look, [*miners, *executors])
        read = reading(wish)
        sights = looking.result()
    return Assignment(read, tuple(_plan_of(fleet, miner, read, sights, wish) for miner in miners))


def reading(wish: Wish) -> Snapshot:
    """Read the chain, make sure that it may be believed, and keep it as the last good reading.

    Raises:
        CeliumError: it cannot be read; the message tells of the last good reading.
        GuardError: it may not be believed; the same.
    """
    guards.check_override(wish.override - {TOO_MANY})
    source = find_source(wish.inventory, wish.network, None)
    kept = fleet_dir(wish.inventory) / "chain.json"
    # A file is what the operator chose, whatever its age.
    file = reader.is_file(source.network)
    before = snapshot.load(kept) if kept.exists() and not file else None
    try:
        found = reader.read(source.network, source.netuid)
        previous = before if before and before.network == found.network else None
        guards.check(found, previous, datetime.now(UTC), override=wish.override | ({guards.STALE} if file else set()))
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


def _look(hosts: list[Host]) -> dict[str, Sight]:
    connections = {host.name: host.connection for host in hosts}
    return probe(connections, {host.name: (host.role, host.stack) for host in hosts})


def _plan_of(fleet: Fleet, miner: Host, read: Snapshot, sights: dict[str, Sight], wish: Wish) -> MinerPlan:
    registry = _registry(miner, sights[miner.name])
    found = candidates(fleet.executors_of(miner.name), registry, sights, wish.even_if_rented)
    coverage = Fraction(int(miner.values["miner_assign_coverage"]), 100)
    hysteresis = Fraction(str(miner.values["miner_assign_hysteresis"]))
    return MinerPlan(miner, found, solve(found.rows, validators(miner, read), coverage, hysteresis))


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


@dataclass(frozen=True)
class Applied:
    """An assignment that was applied; ``errors`` say what went wrong, by the miner or the executor's row."""

    run: str | None
    assignment: Assignment
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def made(self) -> list[tuple[MinerPlan, Move]]:
        """Return the moves that were made, as the registries say after them."""
        return [
            (miner, move)
            for miner, move in self.assignment.moves
            if move.executor not in self.errors and miner.miner.name not in self.errors
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what was done as ``assign apply --json`` promises it."""
        moves = [_move_json(miner, move) for miner, move in self.made]
        return {"run": self.run, **self.assignment.to_json(), "moves": moves, "errors": self.errors}


def apply(wish: Wish, agree: Callable[[Assignment], None], on_host: OnHost, warn: Callable[[str], None]) -> Applied:
    """Work out the best assignment and apply it; the fleet is locked meanwhile.

    ``agree`` is shown the plan before anything is changed, and raises when it is not to be applied.

    Raises:
        GuardError: as ``plan``, or too many executors would move at once, or somebody else changes the fleet.
        CeliumError: as ``plan``, or Ansible did not run at all.
        KeyboardInterrupt: ctrl-c; the same command finishes the job.
    """
    fleet, state = load_fleet(wish.inventory), fleet_dir(wish.inventory)
    with fleet_locked(fleet, state, "an assignment", warn):
        assignment = plan(wish)
        if not assignment.moves:
            return Applied(None, assignment)
        refuse_too_many(assignment, wish)
        agree(assignment)
        return _journaled(Journal(state), wish, assignment, on_host)


def refuse_too_many(assignment: Assignment, wish: Wish) -> None:
    """Stop a plan that moves so much that the chain's data are the likelier reason.

    Raises:
        GuardError: it does, and the operator did not say that it may.
    """
    reasons = [miner.too_many for miner in assignment.miners if miner.too_many]
    if reasons and TOO_MANY not in wish.override:
        raise GuardError(
            "; ".join(reasons),
            remedy=f"look at celium-ops assign plan; if it is right: --override {TOO_MANY}, or miner_assign_max_moves",
            code=TOO_MANY,
        )


def _journaled(journal: Journal, wish: Wish, assignment: Assignment, on_host: OnHost) -> Applied:
    run = journal.begin(COMMAND, {"inventory": str(wish.inventory), "moves": len(assignment.moves)})
    # Before anything is touched, so that whoever finds us dead knows what was under way.
    journal.detail(run, {**assignment.to_json(), "errors": None})
    try:
        applied = Applied(run, assignment, _move(wish, assignment, on_host))
    except BaseException as error:
        journal.finish(run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    journal.detail(run, applied.to_json())
    entries = [
        HostEntry(name, "failed" if name in applied.errors else "ok", changed, 0.0, applied.errors.get(name))
        for name, changed in _made_at(applied).items()
    ]
    journal.finish(run, "failed" if applied.errors else "ok", entries)
    return applied


def _made_at(applied: Applied) -> dict[str, int]:
    counts = {miner.miner.name: 0 for miner in applied.assignment.miners if miner.moves}
    for miner, _ in applied.made:
        counts[miner.miner.name] += 1
    return counts


def _move(wish: Wish, assignment: Assignment, on_host: OnHost) -> dict[str, str]:
    """Hand the moves over to the miners and return what went wrong."""
    miners = tuple(miner.miner.name for miner in assignment.miners if miner.moves)
    variables = {"miner_executors": [wanted(miner, move) for miner, move in assignment.moves]}
    recap = run_playbook(Playbook("register", wish.inventory, miners, variables=variables), on_host)
    errors: dict[str, str] = {}
    for name in miners:
        host = recap.hosts.get(name)
        results = recap.outputs.get(REGISTRY_MODULE, {}).get(name, {}).get("executors")
        if results is not None:
            errors |= {row_name((one["address"], one["port"])): one["error"] for one in results if one["error"]}
        elif host is None or host.result != "ok":
            errors[name] = (host.error if host else None) or "was never reached"
    return errors


def wanted(miner: MinerPlan, move: Move) -> dict[str, Any]:
    """Return a move as the registry module takes it; ``expected`` is what the plan saw, so nobody's change is lost."""
    address, _, port = move.executor.rpartition(":")
    host = miner.candidates.hosts.get(move.executor)
    return {
        "name": host.name if host else move.executor,
        "miner": miner.miner.name,
        "address": address,
        "port": int(port),
        "validator": move.to,
        "price": host.values.get("executor_price") if host else None,
        "expected": move.from_ or UNREGISTERED,
    }


def history(inventory: Path, limit: int) -> list[tuple[Run, dict[str, Any]]]:
    """Return the assignments that were applied, newest first, each with its document.

    Raises:
        CeliumError: the journal cannot be read.
    """
    return list(Journal(fleet_dir(inventory)).details(COMMAND, limit))
