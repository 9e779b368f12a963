"""``celium-ops gpu``: whether the GPUs are what they say, and as fast as they should be."""

from __future__ import annotations

from typing import Annotated

import typer

from celium_ops.base.errors import Exit
from celium_ops.cli.options import Limit, Settings, command, group

app = group("Proof that the GPUs are what they say.")


@command(app, "prove")
def prove(
    settings: Settings,
    limit: Limit = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="All cards at full load for minutes; of all turns the worst one counts.")
    ] = False,
) -> None:
    """Let the GPUs of all executors prove themselves, at once; hosts that are rented out are left alone.

    A host that lacks the container gets it first. There each card gets a challenge that nobody could know before,
    computes with all others at once until its memory is full of the results, commits to them, and opens what this
    controller then picks. What counts is what was proven, by this controller's clock; what the host says of itself
    stands beside it.

    Exit 1 when anything speaks against a host, or a host could not be examined.

    Examples:
      celium-ops gpu prove
      celium-ops gpu prove --limit gpu-4 --deep
      celium-ops gpu prove --json | jq '.hosts[] | select(.verdict == "reject") | {name, reasons}'
    """
    from celium_ops.cli import gpu_views, views
    from celium_ops.workflows.gpu import prove as examine

    with gpu_views.Phases() as phases:
        done = examine(settings.inventory, limit, deep, phases.start, phases.update, phases.warn)
    if settings.json:
        modes = {host.mode for host in done.hosts if host.mode}
        mode = modes.pop() if len(modes) == 1 else None
        hosts = [host.to_json() for host in done.hosts]
        views.print_json(settings, {"ok": done.ok, "run": done.run, "mode": mode, "hosts": hosts})
    else:
        gpu_views.show_proving(done)
    if not done.ok:
        raise typer.Exit(Exit.FAILED)


@command(app, "show")
def show(settings: Settings, host: Annotated[str, typer.Argument(help="An executor of the inventory.")]) -> None:
    """Explain the last proof of one host: every check with what was measured, what is required, and what to do.

    Example: celium-ops gpu show gpu-4
    """
    from celium_ops.cli import gpu_views, views
    from celium_ops.workflows.proofs import last_report

    when, report = last_report(settings.inventory, host)
    if settings.json:
        views.print_json(settings, {"ok": True, "began": when, "host": report})
    else:
        gpu_views.show_report(when, report)
