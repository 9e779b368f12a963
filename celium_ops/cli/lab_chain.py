"""``celium-ops lab chain``: what the lab's simulated chain serves, and how it misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from celium_ops.base.errors import Exit, UsageError
from celium_ops.cli.options import Settings, command, group
from celium_ops.lab.chain.faults import MEANINGS, Fault

if TYPE_CHECKING:
    from celium_ops.lab.chain.container import ChainStatus
    from celium_ops.lab.chain.state import State

app = group("The lab's simulated chain: another world, or a fault.")

_CLEAR = "clear"
_NAMES = "\n".join(f"{name.value:<14} {meaning}" for name, meaning in MEANINGS.items())


@command(app, "set")
def set_(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="A file that `celium-ops chain snapshot` wrote.", metavar="FILE")],
) -> None:
    """Serve the subnet of a snapshot from the next block on; `lab up` keeps it.

    The blocks go on where they are when the snapshot's is an earlier one, and the first block stays the lab's own.

    Example: celium-ops lab chain set sn51.json
    """
    from celium_ops.chain import snapshot
    from celium_ops.lab.chain import worlds

    wanted = snapshot.load(file)
    worlds.check(wanted, _report)
    _change(settings, lambda state, now: state.with_snapshot(wanted, now))


def fault(
    settings: Settings,
    name: Annotated[str, typer.Argument(help=f"The fault, or {_CLEAR} to end it.", metavar=f"NAME|{_CLEAR}")],
) -> None:
    """Let the chain misbehave until the fault is cleared; one fault at a time.

    Examples: celium-ops lab chain fault flapping · celium-ops lab chain fault clear
    """
    if name != _CLEAR and name not in set(Fault):
        raise UsageError(
            f"the simulated chain has no fault {name!r}",
            remedy=f"one of {', '.join(Fault)}, or {_CLEAR}",
            code="no-such-fault",
        )
    wanted = None if name == _CLEAR else Fault(name)
    _change(settings, lambda state, now: state.with_fault(wanted, now))


# Help keeps the lines of a paragraph that begins with a backspace.
fault.__doc__ = f"{fault.__doc__}\n\b\n{_NAMES}\n"
command(app, "fault")(fault)


@command(app, "status")
def status(settings: Settings) -> None:
    """Show the chain's address, block and fault; exit 1 when it does not do as it was told.

    Example: celium-ops lab chain status --json
    """
    from celium_ops.lab import lab, layout

    name = layout.lab_name()
    _show(settings, name, lab.chain_status(name))


def line(found: ChainStatus) -> str:
    """Return how the chain is, in one line for a console."""
    said = "[red]does not answer[/]"
    if found.ok:
        said = "silent" if found.block is None else f"[green]ok[/], block {found.block}"
    fault = f", [yellow]fault {found.fault}: {MEANINGS[found.fault]}[/]" if found.fault else ""
    return f"chain {found.address} (simulated): {said}{fault}"


def document(found: ChainStatus) -> dict[str, object]:
    """Return how the chain is, for ``--json``."""
    return {"simulated": True, **asdict(found)}


def _change(settings: Settings, to: Callable[[State, datetime], State]) -> None:
    from celium_ops.lab import lab, layout

    name = layout.lab_name()
    _show(settings, name, lab.change_chain(name, to))


def _show(settings: Settings, name: str, found: ChainStatus) -> None:
    from celium_ops.cli import views

    if settings.json:
        views.print_json(settings, {"ok": found.ok, "lab": name, "chain": document(found)})
    else:
        views.out().print(line(found))
    if not found.ok:
        raise typer.Exit(Exit.FAILED)


def _report(text: str) -> None:
    typer.echo(text, err=True)
