"""``celium-ops plan``: what differs, and what a deploy would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Limit, Settings

if TYPE_CHECKING:
    from celium_ops.workflows.plan import HostPlan


def plan(
    settings: Settings,
    limit: Limit = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what differs inside files; secrets stay hidden.")] = False,
) -> None:
    """Say what differs between the inventory and each host, and what a deploy would do; changes nothing.

    One round trip per host; who answers first is shown first.

    Exit 0: all converged; 3: changes are pending; 1: a host could not be read.

    Examples:
      celium-ops plan -i inventory/fleet.yml
      celium-ops plan --limit gpu-4 --diff
      celium-ops plan --json | jq '.hosts[] | select(.state != "converged")'
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    from celium_ops.cli import plan_views, views
    from celium_ops.workflows.plan import plan as make_plan

    shown: list[Future[None]] = []
    # In a thread of its own: whoever reads slowly must not keep us from hearing hosts in time.
    with ThreadPoolExecutor(1) as printer:

        def show(host: HostPlan) -> None:
            if not settings.json:
                shown.append(printer.submit(plan_views.show_host, host, diff, views.out()))

        found = make_plan(settings.inventory, limit, show)
    for one in shown:
        one.result()
    if settings.json:
        hosts = [host.to_json(diff) for host in found.hosts]
        views.print_json(settings, {"ok": found.readable, "changes": found.changes, "hosts": hosts})
    else:
        plan_views.show_counts(found, views.out())
    if not found.readable:
        raise typer.Exit(Exit.FAILED)
    if found.changes:
        raise typer.Exit(Exit.PENDING)
