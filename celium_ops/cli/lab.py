"""``celium-ops lab``: a rehearsal fleet on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli import lab_chain
from celium_ops.cli.options import Settings, command, confirm, group

if TYPE_CHECKING:
    from celium_ops.lab.lab import LabStatus

app = group(
    "A rehearsal fleet on this machine: real systemd, sshd, apt and Docker; simulated GPUs, chain and neurons. "
    "CELIUM_LAB names it (default: demo)."
)
app.add_typer(lab_chain.app, name="chain")


@command(app, "up")
def up(
    settings: Settings,
    miners: Annotated[int | None, typer.Option(help="Miners the lab is to have (a new one: 1).", min=0)] = None,
    executors: Annotated[int | None, typer.Option(help="Executors the lab is to have (a new one: 3).", min=0)] = None,
    validators: Annotated[int | None, typer.Option(help="Validators the lab is to have (a new one: 1).", min=0)] = None,
) -> None:
    """Bring the lab up, or add what is missing; the last line is the path of its inventory.

    Hosts are only added here: to have fewer, take the lab down. What you changed in the inventory stays.

    Examples: celium-ops lab up · celium-ops lab up --executors 4 · CELIUM_LAB=mine celium-ops lab up --miners 2
    """
    from celium_ops.cli import views
    from celium_ops.lab import lab, layout

    requested = {"miners": miners, "executors": executors, "validators": validators}
    counts = {group: count for group, count in requested.items() if count is not None}
    name = layout.lab_name()
    path = lab.up(name, counts, _report)
    if settings.json:
        views.print_json(settings, {"ok": True, "lab": name, "inventory": path})
    else:
        typer.echo(path)


@command(app, "down")
def down(
    settings: Settings,
    images: Annotated[bool, typer.Option("--images", help="Also remove the images and caches all labs share.")] = False,
) -> None:
    """Remove the lab: its hosts with all they hold, its network, its volumes, its inventory and keys.

    Examples: celium-ops lab down · celium-ops lab down --yes --images
    """
    from celium_ops.cli import views
    from celium_ops.lab import lab, layout

    name = layout.lab_name()
    parts = lab.parts(name, _report)
    if parts:
        if not settings.yes:
            _report("\n".join(parts))
        confirm(settings, f"Remove these {len(parts)} things of the lab {name}?", "nothing was removed")
    if parts or images:
        lab.down(name, images, _report)
    _report(f"the lab {name} is gone" if parts else f"there was no lab {name}")
    if settings.json:
        views.print_json(settings, {"ok": True, "lab": name, "removed": parts})


@command(app, "status")
def status(settings: Settings) -> None:
    """Show the hosts of the lab and whether Ansible can work with them; exit 1 when something is not right.

    Examples: celium-ops lab status · celium-ops lab status --json
    """
    from celium_ops.cli import views
    from celium_ops.lab import lab, layout

    found = lab.status(layout.lab_name())
    if settings.json:
        views.print_json(settings, _document(found))
    else:
        _show(found)
    if not found.ok:
        raise typer.Exit(Exit.FAILED)


@command(app, "inventory")
def inventory(_settings: Settings) -> None:
    """Print the path of the lab's inventory, for -i.

    Example: ansible -i "$(celium-ops lab inventory)" all -m ping
    """
    from celium_ops.lab import lab, layout

    typer.echo(lab.find_inventory(layout.lab_name()))


def _report(line: str) -> None:
    typer.echo(line, err=True)


def _document(found: LabStatus) -> dict[str, object]:
    hosts = [
        {
            "name": host.name,
            "group": host.group,
            "address": host.address,
            "container": host.container,
            "suite": host.suite,
            "state": host.state,
            "system": host.system,
            "ssh": host.ssh,
            "ok": host.ok,
            "started_at": host.started_at,
        }
        for host in found.hosts
    ]
    return {
        "ok": found.ok,
        "lab": found.lab,
        "subnet": found.subnet,
        "inventory": found.inventory,
        "registry": {
            "address": found.registry,
            "ok": found.registry_ok,
            "images": [{"name": name, "digest": pushed.digest} for name, pushed in found.images.items()],
        },
        "packages": {"address": found.packages, "ok": found.packages_ok},
        "chain": lab_chain.document(found.chain),
        "hosts": hosts,
    }


def _show(found: LabStatus) -> None:
    from rich.table import Table

    from celium_ops.cli import views

    console = views.out()
    if not found.hosts:
        console.print(f"There is no lab {found.lab}. `celium-ops lab up` makes one.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("HOST", "ADDRESS", "SYSTEM", "CONTAINER", "SYSTEMD", "SSH"):
        table.add_column(heading)
    for host in found.hosts:
        answers = "[green]ok[/]" if host.ssh else "[red]no[/]"
        table.add_row(host.name, host.address, host.suite or "-", host.state, host.system or "-", answers)
    registry = f"[green]ok[/], {len(found.images)} images" if found.registry_ok else "[red]does not answer[/]"
    console.print(table)
    console.print(f"registry {found.registry}: {registry}")
    console.print(f"packages {found.packages}: {'[green]ok[/]' if found.packages_ok else '[red]does not answer[/]'}")
    console.print(lab_chain.line(found.chain))
    console.print(f"inventory {found.inventory or '[red]missing[/]'}")
