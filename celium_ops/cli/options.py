"""The options every command knows, before or after its name, and what happens to its errors.

A command is a function whose first parameter is the ``Settings``; ``@command(app, "name")`` adds the shared options,
shows a ``CeliumError`` the way the contract says, and turns it into the exit code.
"""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from celium_ops.base.errors import CeliumError, Exit, UsageError

DEFAULT_INVENTORY = Path("inventory/fleet.yml")


@dataclass
class Settings:
    """What the shared options say; an option given before or after the command counts the same."""

    inventory_option: Path | None = None
    json: bool = False
    verbose: bool = False
    yes: bool = False
    schema: str = "celium-ops/error/1"

    @property
    def inventory(self) -> Path:
        """Return the inventory: ``-i``, else ``$CELIUM_OPS_INVENTORY``, else ``inventory/fleet.yml``."""
        from_environment = os.environ.get("CELIUM_OPS_INVENTORY")
        return self.inventory_option or (Path(from_environment) if from_environment else DEFAULT_INVENTORY)

    @property
    def inventory_if_any(self) -> Path | None:
        """Return the inventory for a command that works without one: None when none was named and none is there."""
        named = self.inventory_option or os.environ.get("CELIUM_OPS_INVENTORY")
        return self.inventory if named or self.inventory.exists() else None


InventoryOption = Annotated[
    Path | None,
    typer.Option("--inventory", "-i", help="Ansible inventory of the fleet  [default: $CELIUM_OPS_INVENTORY]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show more, tracebacks included.")]
Limit = Annotated[
    str | None, typer.Option("--limit", "-l", help="Only these: names, name patterns, groups; comma separated.")
]
"""For commands about some hosts; not among the shared options."""
YesOption = Annotated[bool, typer.Option("--yes", help="Answer yes where a destructive command asks.")]


def remember(
    context: typer.Context,
    inventory: InventoryOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    yes: YesOption = False,
) -> Settings:
    """Add the given options to the ``Settings`` that all levels of the command line share."""
    settings = context.ensure_object(Settings)
    settings.inventory_option = inventory or settings.inventory_option
    settings.json = settings.json or json
    settings.verbose = settings.verbose or verbose
    settings.yes = settings.yes or yes
    return settings


_SHARED = list(inspect.signature(remember, eval_str=True).parameters.values())


def group(words: str, **more: Any) -> typer.Typer:
    """Return a group of commands; ``more`` is what typer may be told besides.

    Its help is plain text: to load what draws boxes takes longer than all the rest of it.
    """
    return typer.Typer(
        help=words,
        short_help=words,  # else it is cut off in a list
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        **more,
    )


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command that also takes the shared options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def wrapper(context: typer.Context, **values: Any) -> None:
            settings = remember(context, **{option.name: values.pop(option.name) for option in _SHARED[1:]})
            # "celium-ops lab status" answers with the schema celium-ops/lab-status/1.
            settings.schema = f"celium-ops/{'-'.join(context.command_path.split()[1:])}/1"
            try:
                function(settings, **values)
            except CeliumError as error:
                _show_and_exit(error, settings)
            except (OSError, subprocess.SubprocessError) as error:
                # Of the machine that we run on: a full disk, a program that is missing.
                _show_and_exit(CeliumError(f"this machine: {error}", remedy="-v shows where", code="machine"), settings)
            except KeyboardInterrupt:
                typer.echo("Interrupted. The same command finishes the job.", err=True)
                raise typer.Exit(Exit.INTERRUPTED) from None

        parameters = [_SHARED[0], *own, *_SHARED[1:]]
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        words = inspect.getdoc(function) or ""
        # The sign keeps the lines of the paragraph behind it as they are.
        app.command(name, help=words.replace("Examples:", "\b\nExamples:"), short_help=words.splitlines()[0])(wrapper)
        return function

    return register


def confirm(settings: Settings, question: str, otherwise: str) -> None:
    """Ask before something that is not easily undone; ``--yes`` answers.

    Raises:
        UsageError: the answer is no, or there is no terminal to ask; ``otherwise`` says what that means.
    """
    if settings.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{otherwise}: there is no terminal to ask ({question})", remedy="answer with --yes", code="not-confirmed"
        )
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # ctrl-c and ctrl-d
        raise KeyboardInterrupt from None
    if not agreed:
        raise UsageError(otherwise, code="not-confirmed")


def _show_and_exit(error: CeliumError, settings: Settings) -> NoReturn:
    from celium_ops.cli.views import show_error

    if settings.verbose:
        traceback.print_exception(error)
    show_error(error, settings)
    raise typer.Exit(error.exit_code) from None
