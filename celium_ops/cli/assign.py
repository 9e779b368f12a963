"""``celium-ops assign``: which executor serves which validator, by the stake on chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from celium_ops.base.errors import Exit, UsageError
from celium_ops.cli.options import Settings, command, confirm, group

if TYPE_CHECKING:
    from celium_ops.workflows.assign import Assignment, Wish

app = group("Let executors follow the stake of the validators.")

NetworkOption = Annotated[
    str | None,
    typer.Option("--network", help="finney, test, local, the ws:// address of a node, or a snapshot file (.json)."),
]
RentedOption = Annotated[bool, typer.Option("--even-if-rented", help="Move executors that are rented, or may be, too.")]
OverrideOption = Annotated[
    list[str] | None, typer.Option("--override", help="Go on in spite of a guard; its error says the name.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=1, help="Seconds to try to read the chain before giving up.")
]


def _wish(
    settings: Settings, network: str | None, even_if_rented: bool, override: list[str] | None, timeout: float
) -> Wish:
    from celium_ops.workflows.assign import Wish

    return Wish(settings.inventory, network, even_if_rented, frozenset(override or ()), timeout)


@command(app, "plan")
def plan(
    settings: Settings,
    network: NetworkOption = None,
    even_if_rented: RentedOption = False,
    override: OverrideOption = None,
    timeout: TimeoutOption = 60,
) -> None:
    """Show the best assignment and the moves that lead to it; exit 3 when there are any.

    Examples:
      celium-ops assign plan
      celium-ops assign plan --network snapshot.json
      celium-ops assign plan --json | jq '.moves[] | [.host, .from, .to]'
    """
    from celium_ops.cli import assign_views, views
    from celium_ops.workflows.assign import plan as make_plan

    assignment = make_plan(_wish(settings, network, even_if_rented, override, timeout))
    if settings.json:
        views.print_json(settings, {"ok": True, **assignment.to_json()})
    else:
        assign_views.show_assignment(assignment)
    for warning in assignment.warnings:
        views.err().print(f"Warning: {warning}", style="yellow", markup=False)
    if assignment.moves:
        raise typer.Exit(Exit.PENDING)


@command(app, "apply")
def apply(
    settings: Settings,
    network: NetworkOption = None,
    even_if_rented: RentedOption = False,
    override: OverrideOption = None,
    timeout: TimeoutOption = 60,
) -> None:
    """Make the best assignment: ask first, then move, all switches of a miner in one transaction.

    Examples:
      celium-ops assign apply
      celium-ops assign apply --yes --json | jq .moves
    """
    from celium_ops.cli import assign_views, views
    from celium_ops.cli.progress import Progress
    from celium_ops.workflows.move import apply as make_it_so

    def agree(assignment: Assignment) -> None:
        if not settings.json:
            assign_views.show_assignment(assignment)
        confirm(settings, f"Make these {len(assignment.moves)} moves?", "nothing was moved")

    wish = _wish(settings, network, even_if_rented, override, timeout)
    with Progress() as progress:
        applied = make_it_so(wish, agree, progress.update, progress.warn)
    if settings.json:
        views.print_json(settings, {"ok": not applied.errors, **applied.to_json()})
    else:
        assign_views.show_applied(applied)
    if applied.errors:
        raise typer.Exit(Exit.FAILED)


@command(app, "watch")
def watch(
    settings: Settings,
    network: NetworkOption = None,
    even_if_rented: RentedOption = False,
    override: OverrideOption = None,
    timeout: TimeoutOption = 60,
) -> None:
    """Apply the best assignment after every epoch of the subnet, until ctrl-c; made for a service manager.

    Examples:
      celium-ops assign watch --yes
    """
    from celium_ops.cli import assign_views
    from celium_ops.workflows.watch import watch as run_watch

    if settings.json:
        raise UsageError("assign watch has no single answer", remedy="ask for: celium-ops assign history --json")
    confirm(settings, "Move executors whenever the stake asks for it, without asking again?", "nothing was moved")
    run_watch(
        _wish(settings, network, even_if_rented, override, timeout),
        lambda tick: assign_views.show_tick(tick, settings),
        lambda _host: None,
        lambda words: typer.echo(words, err=True),
    )


@command(app, "history")
def history(
    settings: Settings, limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, newest first.")] = 20
) -> None:
    """Show the assignments that were applied: when, at which block, by what stake, and what moved.

    Examples:
      celium-ops assign history
      celium-ops assign history --json | jq '.runs[0].moves'
    """
    from celium_ops.cli import assign_views, views
    from celium_ops.workflows.move import history as read_history

    runs = read_history(settings.inventory, limit)
    if settings.json:
        documents = [{**content, "run": run.id, "state": run.state, "began": run.began} for run, content in runs]
        views.print_json(settings, {"ok": True, "runs": documents})
    else:
        assign_views.show_history(runs)
