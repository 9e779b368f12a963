"""``celium-ops env``: the environment files of the applications."""

from __future__ import annotations

from typing import Annotated

import typer

from celium_ops.cli.options import Settings, command, group

app = group("Look at the environment files that a deploy writes; no host is touched.")


@command(app, "render")
def render(
    settings: Settings, host: Annotated[str, typer.Argument(help="A host of the inventory.", metavar="HOST")]
) -> None:
    """Show the .env files that a host would get, secrets masked, from the template that a deploy uses.

    Examples:
      celium-ops env render gpu-1
      celium-ops env render gpu-1 --json | jq -r '.files[].path'
    """
    from celium_ops.cli import views
    from celium_ops.workflows.environment import rendered

    files = rendered(settings.inventory, host)
    if settings.json:
        shown = [{"path": path, "content": content} for path, content in files.items()]
        views.print_json(settings, {"ok": True, "host": host, "files": shown})
    else:
        # The files' own lines are comments, so that what is shown can be used as it is.
        typer.echo("\n".join(f"# {path}\n{content}" for path, content in files.items()), nl=False)
