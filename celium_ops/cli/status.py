"""``celium-ops status``: what the fleet looks like right now."""

from __future__ import annotations

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Settings


def status(settings: Settings) -> None:
    """Show every host: reachable, its containers and their health, and who its miner registered it for.

    Examples:
      celium-ops status -i inventory/fleet.yml
      celium-ops status --json | jq '.hosts[] | select(.healthy | not)'
    """
    from celium_ops.cli import views
    from celium_ops.workflows.status import fleet_status

    hosts = fleet_status(settings.inventory)
    ok = all(host.healthy for host in hosts)
    if settings.json:
        views.print_json(settings, {"ok": ok, "hosts": [host.to_json() for host in hosts]})
    else:
        views.show_status(hosts)
    if not ok:
        raise typer.Exit(Exit.FAILED)
