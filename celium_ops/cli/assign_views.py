"""How an assignment looks: the validators with their stake beside their executors, then every move with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celium_ops.cli.views import RUN_STATES, err, out

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celium_ops.assignment.model import Move
    from celium_ops.cli.options import Settings
    from celium_ops.journal.runs import Run
    from celium_ops.workflows.assign import Assignment, MinerPlan
    from celium_ops.workflows.move import Applied
    from celium_ops.workflows.watch import Tick

BAR = 20
"""Cells of a bar that stands for everything."""
SHOWN_MOVES = 40


def show_assignment(assignment: Assignment) -> None:
    """Show what the stake asks for, what there is, and what is to be moved."""
    from celium_ops.workflows.assign import ago

    console, read = out(), assignment.snapshot
    console.print(f"{read.network}, subnet {read.netuid}, block {read.block} ({ago(read.block_time)})")
    console.print(_chart(assignment.validators))
    for miner in assignment.miners:
        _show_miner(miner, alone=len(assignment.miners) == 1)
    _show_moves(assignment.moves)


def _chart(validators: list[dict[str, Any]]) -> Any:
    """Return the stake share of each validator beside the share of executors that it gets."""
    from rich.table import Table

    whole = sum(one["executors_after"] for one in validators) or 1
    table = Table(box=None, pad_edge=False)
    for column in ("validator", "stake", "", "executors", "", ""):
        table.add_column(column, justify="right" if column in ("stake", "executors") else "left", no_wrap=True)
    for one in validators:
        before, after = one["executors_before"], one["executors_after"]
        executors = f"{after}" if before == after else f"{before} → {after}"
        row = (one["hotkey"], f"{one['stake_share']:.1%}", f"[cyan]{_bar(one['stake_share'])}[/]", executors)
        table.add_row(*row, f"[green]{_bar(after / whole)}[/]", f"[yellow]{one['why_not'] or ''}[/]")
    return table


def _bar(share: float) -> str:
    """Return a share of 1 as a bar, to an eighth of a cell."""
    full, rest = divmod(round(share * BAR * 8), 8)
    return "█" * full + "▏▎▍▌▋▊▉"[rest - 1 : rest]


def _show_miner(miner: MinerPlan, alone: bool) -> None:
    from celium_ops.assignment.model import percent

    console, plan = out(), miner.plan
    name = "" if alone else f"{miner.miner.name}: "
    console.print(f"{name}coverage {percent(plan.coverage_before)} → {percent(plan.coverage_after)} of the stake")
    notes = [plan.short] if plan.short else []
    if plan.held_back:
        notes.append(f"{plan.held_back} moves are held back, they gain less than miner_assign_hysteresis asks for")
    if plan.gap:
        notes.append(f"with unequal weights the best plan is not proven: the sum may be {float(plan.gap):.2f} too high")
    notes += [f"{row.executor} stays: {row.lock}" for row in miner.candidates.rows if row.lock]
    notes += [f"{host} is not registered yet: {why}" for host, why in miner.candidates.waiting.items()]
    if miner.too_many:
        notes.append(f"apply will stop: {miner.too_many}")
    for note in notes:
        console.print(f"  {note}", style="yellow", markup=False)


def _show_moves(moves: Iterable[tuple[MinerPlan, Move]]) -> None:
    from rich.table import Table

    console, moves = out(), list(moves)
    table = Table(box=None, pad_edge=False, show_header=False)
    for miner, move in moves[:SHOWN_MOVES]:
        host = miner.candidates.hosts.get(move.executor)
        table.add_row(move.action, host.name if host else move.executor, move.from_ or "", "→", move.to, move.why)
    if moves:
        console.print(table)
    if len(moves) > SHOWN_MOVES:
        console.print(f"... and {len(moves) - SHOWN_MOVES} more; --json has them all")
    console.print(f"{len(moves)} moves" if moves else "nothing to move")


def show_applied(applied: Applied) -> None:
    """Show what was moved, and what could not be."""
    console = out()
    if applied.run is None:
        show_assignment(applied.assignment)
        return
    for name, error in applied.errors.items():
        console.print(f"{name}: {error}", style="red", markup=False)
    console.print(f"{len(applied.made)} of {len(applied.assignment.moves)} moves made (run {applied.run})")


def show_tick(tick: Tick, settings: Settings) -> None:
    """Show one round of the watch, in a line for a log; errors go to stderr."""
    from celium_ops.cli.views import show_error

    again = f"next in {tick.pause / 60:.0f} minutes"
    if tick.error:
        show_error(tick.error, settings)
    if tick.applied is None:
        err().print(again)
        return
    for name, error in tick.applied.errors.items():
        err().print(f"{name}: {error}", markup=False)
    block, coverage = tick.applied.assignment.snapshot.block, tick.applied.assignment.coverage("after")
    out().print(f"block {block}: {len(tick.applied.made)} moves, coverage {coverage:.1%}; {again}")


def show_history(runs: list[tuple[Run, dict[str, Any]]]) -> None:
    """Show the assignments that were applied, a line each."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "who", "block", "coverage", "moves"):
        table.add_column(column, justify="right" if column in ("block", "moves") else "left", no_wrap=True)
    for run, content in runs:
        coverage = content["coverage"]
        shown = f"{coverage['before']:.1%} → {coverage['after']:.1%}"
        state = f"[{RUN_STATES[run.state]}]{run.state}[/]"
        table.add_row(run.id, state, run.user, f"{content['block']}", shown, f"{len(content['moves'])}")
    out().print(table if runs else "no assignment was applied yet")
