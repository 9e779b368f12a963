"""The assignment made so: the plan that its operator agreed to, handed to the miners, and kept in the journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celium_ops.assignment.model import Move
from celium_ops.base.errors import GuardError
from celium_ops.chain import guards, reader
from celium_ops.fleet.inventory import load_fleet
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import HostEntry, Journal, Run
from celium_ops.registry.rows import row_name
from celium_ops.remote.probe import probe
from celium_ops.runner.playbook import OnHost, Playbook, run_playbook
from celium_ops.workflows.assign import REGISTRY_MODULE, TOO_MANY, Assignment, MinerPlan, Wish, move_json, plan, wanted
from celium_ops.workflows.candidates import tenanted
from celium_ops.workflows.chain import find_source
from celium_ops.workflows.lock import fleet_locked

COMMAND = "assign apply"


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
        moves = [move_json(miner, move) for miner, move in self.made]
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
        for warning in assignment.warnings:
            warn(warning)
        if not assignment.moves:
            return Applied(None, assignment)
        refuse_too_many(assignment, wish)
        agree(assignment)
        refuse_what_changed(assignment, wish)
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


def refuse_what_changed(assignment: Assignment, wish: Wish) -> None:
    """Look once more before anything moves: whoever was asked may have taken his time to agree.

    Raises:
        GuardError: a tenant has come meanwhile, or the reading of the chain has become too old.
    """
    file = reader.is_file(find_source(wish.inventory, wish.network, None).network)
    override = wish.override - {TOO_MANY} | ({guards.STALE} if file else set())
    guards.check(assignment.snapshot, None, datetime.now(UTC), override=override)
    moving = [miner.candidates.hosts.get(move.executor) for miner, move in assignment.moves if move.from_]
    sights = {} if wish.even_if_rented else probe([host for host in moving if host])
    if taken := tenanted(sights):
        raise GuardError(
            f"nothing was moved, for since the plan was made: {'; '.join(taken.values())}",
            remedy="the next plan leaves it where it is: celium-ops assign apply",
            code="rented",
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


def history(inventory: Path, limit: int) -> list[tuple[Run, dict[str, Any]]]:
    """Return the assignments that were applied, newest first, each with its document.

    Raises:
        CeliumError: the journal cannot be read.
    """
    return list(Journal(fleet_dir(inventory)).details(COMMAND, limit))
