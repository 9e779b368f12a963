"""``celium-ops runs``: what was done to the fleet, when, by whom, and with what result."""

from __future__ import annotations

from typing import Annotated

import typer

from celium_ops.cli.options import Settings, command, group

app = group("What was done to the fleet, by whom, with what result.")


@command(app, "list")
def list_(settings: Settings, limit: Annotated[int, typer.Option("--last", help="How many runs.", min=1)] = 20) -> None:
    """Show the newest runs, newest first.

    Example: celium-ops runs list --last 5
    """
    from celium_ops.cli import views
    from celium_ops.workflows.runs import list_runs

    runs = list_runs(settings.inventory, limit)
    if settings.json:
        views.print_json(settings, {"ok": True, "runs": [run.to_json() for run in runs]})
    else:
        views.show_runs(runs)


@command(app, "show")
def show(settings: Settings, run: Annotated[str, typer.Argument(help="The id that deploy printed.")]) -> None:
    """Show one run with every host.

    Example: celium-ops runs show 20261121T033600Z-1f0c
    """
    from celium_ops.cli import views
    from celium_ops.workflows.runs import show_run

    found = show_run(settings.inventory, run)
    if settings.json:
        views.print_json(settings, {"ok": True, "run": found.to_json()})
    else:
        views.show_run(found)
