"""``celium-ops deploy``: bring the fleet to what the inventory says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Limit, Settings, confirm

if TYPE_CHECKING:
    from celium_ops.workflows.deploy import Leftovers
    from celium_ops.workflows.plan import HostPlan, Plan


def deploy(
    settings: Settings,
    limit: Limit = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 3 when something would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what changes inside files; secrets stay hidden.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove registry rows that no host of the inventory has; ask first.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Play every role on every selected host, whatever the plan says.")
    ] = False,
    even_if_rented: Annotated[
        bool, typer.Option("--even-if-rented", help="Change hosts that tenants have, or may have, too; ask first.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 when changes wait for tenants.")] = False,
    accept_outdated: Annotated[
        bool,
        typer.Option("--accept-outdated", help="Deploy dialect celium on finney although it cannot read the chain."),
    ] = False,
) -> None:
    """Provision and deploy the hosts that differ from the inventory, then register the executors at their miners.

    What differs is worked out first, as by `celium-ops plan`; hosts that are converged are left alone. On a host that a
    tenant has, nothing is restarted, recreated or removed: what differs there waits, and the next deploy sees to it.

    Examples:
      celium-ops deploy -i inventory/fleet.yml
      celium-ops deploy --limit gpu-4
      celium-ops deploy --limit executors --check --diff
      celium-ops deploy --prune --check
    """
    from celium_ops.cli import plan_views, views
    from celium_ops.cli.progress import Progress
    from celium_ops.workflows.deploy import Wish
    from celium_ops.workflows.deploy import deploy as run_deploy

    class Agree:
        def prune(self, rows: Leftovers) -> None:
            names = ", ".join("{address}:{port} ({miner})".format(**row) for row in rows)
            confirm(settings, f"Remove {names} from the registry, for good?", "nothing was changed")

        def disturb(self, hosts: list[HostPlan]) -> None:
            names = ", ".join(f"{host.name} ({', '.join(host.rentals or ('perhaps',))})" for host in hosts)
            confirm(settings, f"Change hosts that tenants have: {names}?", "nothing was changed")

    def show_plan(plan: Plan) -> None:
        if plan.changes and not full:
            plan_views.show(plan, diff=False, console=views.err(), only_pending=True)

    wish = Wish(settings.inventory, limit, check, diff, accept_outdated, prune, full, even_if_rented)
    with Progress() as progress:
        deployment = run_deploy(wish, Agree(), show_plan, progress.start, progress.update, progress.warn)
    if settings.json:
        hosts = [host.to_json() for host in deployment.hosts]
        views.print_json(settings, {"ok": deployment.ok, "run": deployment.run, "hosts": hosts})
    else:
        views.show_deployment(deployment, check)
    if not deployment.ok:
        raise typer.Exit(Exit.FAILED)
    if (check and deployment.changed) or ((check or strict) and deployment.waits):
        raise typer.Exit(Exit.PENDING)
