"""``celium-ops inventory``: look at the inventory without touching a host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import DEFAULT_INVENTORY, Settings, command, group

app = group("Check and show the inventory; no host is touched.")


@command(app, "lint")
def lint(settings: Settings) -> None:
    """Check the inventory: types, addresses, ports, links between hosts, misspelt keys, drivers that validators refuse.

    Keys that a file gives twice and hosts that no group gives a role are named too.

    Example: celium-ops inventory lint -i inventory/fleet.yml
    """
    from celium_ops.cli import views
    from celium_ops.workflows.inventory import linted

    fleet, findings = linted(settings.inventory)
    ok = all(finding.severity != "error" for finding in findings)
    if settings.json:
        views.print_json(settings, {"ok": ok, "findings": [finding.to_json() for finding in findings]})
    else:
        views.show_findings(fleet, findings)
    if not ok:
        raise typer.Exit(Exit.USAGE)


@command(app, "show")
def show(
    settings: Settings, host: Annotated[str | None, typer.Argument(help="Only this host; all if left out.")] = None
) -> None:
    """Show every host with its values as the roles will see them, and where each comes from.

    Example: celium-ops inventory show gpu-1
    """
    from celium_ops.cli import views
    from celium_ops.workflows.inventory import shown_hosts

    hosts = shown_hosts(settings.inventory, host)
    if settings.json:
        views.print_json(settings, {"ok": True, "hosts": [one.to_json() for one in hosts]})
    else:
        views.show_hosts(hosts)


def init(
    settings: Settings,
    path: Annotated[Path, typer.Argument(help="The file to write.")] = DEFAULT_INVENTORY,
) -> None:
    """Write a commented sample inventory; a file that exists is never overwritten.

    Examples:
      celium-ops init
      celium-ops init fleets/berlin.yml
    """
    from celium_ops.cli import views
    from celium_ops.workflows.inventory import write_sample

    write_sample(path)
    if settings.json:
        views.print_json(settings, {"ok": True, "inventory": str(path)})
    else:
        views.out().print(
            f"wrote {path}; fill in what stands in <angle brackets>, then: celium-ops inventory lint -i {path}"
        )
