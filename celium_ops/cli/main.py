"""The ``celium-ops`` program: its command groups, put together."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from celium_ops import __version__
from celium_ops.base.errors import Exit, UsageError
from celium_ops.cli import (
    assign,
    chain,
    deploy,
    env,
    gpu,
    hosts,
    inventory,
    lab,
    plan,
    preflight,
    retire,
    rules,
    runs,
    status,
)
from celium_ops.cli.options import (
    InventoryOption,
    JsonOption,
    Settings,
    VerboseOption,
    YesOption,
    command,
    group,
    remember,
)
from celium_ops.cli.views import show_error

app = group(
    "Provision and operate a fleet of the Celium (Lium) GPU compute subnet from one Ansible inventory.",
    name="celium-ops",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(lab.app, name="lab")
app.add_typer(inventory.app, name="inventory")
app.add_typer(env.app, name="env")
app.add_typer(runs.app, name="runs")
app.add_typer(chain.app, name="chain")
app.add_typer(rules.app, name="rules")
app.add_typer(gpu.app, name="gpu")
app.add_typer(assign.app, name="assign")
app.add_typer(hosts.app, name="hosts")
command(app, "init")(inventory.init)
command(app, "plan")(plan.plan)
command(app, "deploy")(deploy.deploy)
command(app, "retire")(retire.retire)
command(app, "status")(status.status)
command(app, "preflight")(preflight.preflight)
command(app, "exec")(hosts.exec_)
command(app, "logs")(hosts.logs)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"celium-ops {__version__}")
        raise typer.Exit


@app.callback()
def shared(
    context: typer.Context,
    inventory: InventoryOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    yes: YesOption = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the shared options given before the command."""
    remember(context, inventory, json, verbose, yes)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Do what ctrl-c would do at this moment: asyncio, for one, handles that in its own way."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # a shell that starts us in the background has ctrl-c ignored
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def main() -> None:
    """Run the program; the process ends with the exit code of the contract."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, _interrupt)
    try:
        code = app(prog_name="celium-ops", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # typer makes the one of the other
        code = Exit.INTERRUPTED
    except Exception as error:
        # Typer keeps the classes of its usage errors to itself; what they can do tells them apart.
        if not hasattr(error, "format_message"):
            raise
        wrong = UsageError(error.format_message(), remedy="celium-ops --help", code="wrong-usage")
        if wrong.message.startswith("Usage: "):  # the help of a group without a command
            typer.echo(wrong.message, err=True)
        else:
            show_error(wrong, Settings(json="--json" in sys.argv))
        code = wrong.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
