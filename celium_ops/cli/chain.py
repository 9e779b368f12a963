"""``celium-ops chain``: what the subnet says of validators and miners. Nothing is signed, no key is opened."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from celium_ops.base.errors import Exit, UsageError
from celium_ops.cli.options import Settings, command

if TYPE_CHECKING:
    from celium_ops.workflows.chain import Source

app = typer.Typer(
    help="Read the subnet: stake, eligible validators, how a miner stands. Read only.", no_args_is_help=True
)

NetworkOption = Annotated[
    str | None,
    typer.Option(
        help="finney, test, local, the ws:// address of a node, or a snapshot file; the inventory's if left out"
    ),
]
NetuidOption = Annotated[int | None, typer.Option(help="The subnet; the inventory's if left out, else 51", min=0)]
OverrideOption = Annotated[
    list[str] | None, typer.Option(metavar="CODE", help="Go on although this guard says no; may be given again.")
]


class Whole(StrEnum):
    """Whose stake is the whole."""

    PERMIT = "permit"
    ACTIVE = "active"
    ALL = "all"


@command(app, "validators")
def validators(
    settings: Settings,
    everybody: Annotated[bool, typer.Option("--all", help="Neurons without a permit too.")] = False,
    of: Annotated[Whole, typer.Option(help="Shares are of the stake of: permit holders, active ones, all.")] = (
        Whole.PERMIT
    ),
    network: NetworkOption = None,
    netuid: NetuidOption = None,
    miner: Annotated[str | None, typer.Option(metavar="HOST", help="The miner whose rules count.")] = None,
    min_alpha: Annotated[
        int | None, typer.Option(help="Alpha that a validator must hold; else the miners', else 10")
    ] = None,
    min_total: Annotated[
        int | None, typer.Option(help="Stake weight that it must have; else the miners', else 20000")
    ] = None,
    silent_blocks: Annotated[int | None, typer.Option(help="Blocks since it set weights, at most; else 1800")] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="HOTKEY", help="Only these are eligible.")] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="HOTKEY", help="These are not eligible.")] = None,
    override: OverrideOption = None,
) -> None:
    """Show who holds the stake, and which validators executors may be given to.

    Stake is the chain's stake weight. Without options the rules are those of the inventory's miners, else upstream's.

    Examples:
      celium-ops chain validators
      celium-ops chain validators --network finney --of active --json
    """
    from celium_ops.chain.eligible import RAO, whole
    from celium_ops.cli import chain_views, views
    from celium_ops.workflows import chain

    source = _source(settings, network, netuid)
    wanted = {
        "min_alpha": None if min_alpha is None else min_alpha * RAO,
        "min_total": None if min_total is None else min_total * RAO,
        "silent_blocks": silent_blocks,
        "allow": frozenset(allow) if allow else None,
        "deny": frozenset(deny) if deny else None,
    }
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    rules = replace(chain.rules_for(source.fleet, miner), **given)
    found = chain.read(source, override or ())
    rows = chain.validators(found, rules, of.value, everybody)
    if settings.json:
        document = {"ok": True, **chain.about(found), "of": of.value, "whole": whole(found, of.value), "unit": "rao"}
        views.print_json(settings, {**document, "validators": [chain.to_json(row) for row in rows]})
    else:
        chain_views.show_validators(found, rows, of.value)


@command(app, "miner")
def miner(
    settings: Settings,
    hotkey: Annotated[
        str | None, typer.Argument(help="Its address; those of the inventory's miners if left out.")
    ] = None,
    network: NetworkOption = None,
    netuid: NetuidOption = None,
    override: OverrideOption = None,
) -> None:
    """Show how a miner stands: what it earns, its axon, and how near it is to losing its UID.

    Exit 1 when a hotkey is not registered.

    Examples:
      celium-ops chain miner
      celium-ops chain miner 5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p --network finney
    """
    from celium_ops.cli import chain_views, views
    from celium_ops.workflows import chain

    _check(hotkey)
    source = _source(settings, network, netuid)
    found = chain.read(source, override or ())
    rows = chain.miners(found, source.fleet, hotkey)
    ok = all(row.registered for row in rows)
    if settings.json:
        document = {"ok": ok, **chain.about(found), **chain.slots(found), "unit": "rao"}
        views.print_json(settings, {**document, "miners": [chain.to_json(row) for row in rows]})
    else:
        chain_views.show_miners(found, rows)
    if not ok:
        raise typer.Exit(Exit.FAILED)


@command(app, "snapshot")
def snapshot(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="The file to write; one that is there is replaced.", metavar="FILE")],
    network: NetworkOption = None,
    netuid: NetuidOption = None,
    override: OverrideOption = None,
) -> None:
    """Write the subnet as it is at this block; --network reads the file again, and the lab's chain serves it.

    With --json the snapshot is printed too.

    Example: celium-ops chain snapshot sn51.json --network finney
    """
    from celium_ops.cli import chain_views, views
    from celium_ops.workflows import chain

    found = chain.read(_source(settings, network, netuid), override or ())
    chain.write_snapshot(found, file)
    if settings.json:
        views.print_json(settings, found.model_dump(mode="json", by_alias=True))
    else:
        chain_views.show_snapshot(found, file)


def _source(settings: Settings, network: str | None, netuid: int | None) -> Source:
    from celium_ops.workflows.chain import find_source

    if settings.verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    return find_source(settings.inventory_if_any, network, netuid)


def _check(hotkey: str | None) -> None:
    from celium_ops.fleet.values import WrongValueError, check

    try:
        if hotkey:
            check("ss58", hotkey)
    except WrongValueError as error:
        raise UsageError(f"{hotkey} is no hotkey", remedy=f"give {error}", code="wrong-hotkey") from None
