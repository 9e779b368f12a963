"""``celium-ops inventory``: look at the inventory without touching a host."""

from __future__ import annotations

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Settings, command

app = typer.Typer(help="Check and show the inventory; no host is touched.", no_args_is_help=True)


@command(app, "lint")
def lint(settings: Settings) -> None:
    """Check the inventory: types, addresses, ports, links between hosts, misspelt keys.

    Example: celium-ops inventory lint -i inventory/fleet.yml
    """
    from celium_ops.cli import views
    from celium_ops.fleet.inventory import check_inventory

    fleet, findings = check_inventory(settings.inventory)
    ok = all(finding.severity != "error" for finding in findings)
    if settings.json:
        views.print_json(settings, {"ok": ok, "findings": [finding.to_json() for finding in findings]})
    else:
        views.show_findings(fleet, findings)
    if not ok:
        raise typer.Exit(Exit.USAGE)
