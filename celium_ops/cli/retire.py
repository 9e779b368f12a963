"""``celium-ops retire``: an executor leaves the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Settings, confirm

if TYPE_CHECKING:
    from celium_ops.fleet.model import Host


def retire(
    settings: Settings,
    host: Annotated[str, typer.Argument(help="An executor of the inventory.", metavar="HOST")],
    even_if_rented: Annotated[
        bool, typer.Option("--even-if-rented", help="Although it is rented, or cannot be asked.")
    ] = False,
) -> None:
    """Take an executor out of its miner's registry, then stop its containers; its volumes stay.

    Do this while the inventory still has the host, then remove it from there.

    Examples:
      celium-ops retire gpu-4
      celium-ops retire gpu-4 --even-if-rented --yes
    """
    from celium_ops.cli import views
    from celium_ops.cli.progress import Progress
    from celium_ops.workflows.retire import Wish
    from celium_ops.workflows.retire import retire as run_retire

    def agree(found: Host) -> None:
        place = "{}:{}".format(*found.endpoint)
        confirm(settings, f"Take {found.name} ({place}) out of the fleet?", f"{found.name} stays")

    with Progress() as progress:
        done = run_retire(Wish(settings.inventory, host, even_if_rented), agree, progress.update, progress.warn)
    if settings.json:
        views.print_json(settings, done.to_json())
    else:
        views.show_retirement(done)
    if done.errors:
        raise typer.Exit(Exit.FAILED)
