"""``celium-ops preflight``: what is wrong with hosts, and what the validator would say of them."""

from __future__ import annotations

from typing import Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Limit, Settings


def preflight(
    settings: Settings,
    limit: Limit = None,
    tried_from: Annotated[
        str | None,
        typer.Option("--from", metavar="HOST", help="Try ports from this host of the inventory, not from here."),
    ] = None,
    bandwidth: Annotated[
        bool, typer.Option("--bandwidth", help="Measure the way to each host too: up to 6 s each, one after the other.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Show what is well too.")] = False,
) -> None:
    """Look at everything that costs income or safety, on all hosts at once; nothing is changed and nothing is left.

    The system, its clock, memory and disk; Docker and how it hands out GPUs; packages that change in the night; who can
    reach what, with ports tried from here, or from another host; keys; and for executors what the validator would say,
    with its reason codes, and whether their cards are those of the last proof.

    Exit 1 when something is wrong, or the validator would refuse an executor.

    Examples:
      celium-ops preflight
      celium-ops preflight --limit gpu-4 --all
      celium-ops preflight --from miner-1
      celium-ops preflight --json | jq '.hosts[] | {name, bad: [.checks[] | select(.status == "fail")]}'
    """
    from celium_ops.cli import preflight_views, views
    from celium_ops.workflows.preflight import preflight as look

    found = look(settings.inventory, limit, preflight_views.say, tried_from, bandwidth)
    if settings.json:
        views.print_json(settings, found.to_json())
    else:
        preflight_views.show(found.hosts, every)
    if not found.ok:
        raise typer.Exit(Exit.FAILED)
