"""``celium-ops chain``: what the subnet says of validators and miners. Nothing is signed, no key is opened."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from celium_ops.base.errors import Exit, UsageError
from celium_ops.cli.options import Settings, command, group

if TYPE_CHECKING:
    from celium_ops.workflows.chain import Source

app = group("Read the subnet: stake, eligible validators, how a miner stands. Read only.")

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
        int | None, typer.Option(min=0, help="Alpha that a validator must hold; else the miners', else 10")
    ] = None,
    min_total: Annotated[
        int | None, typer.Option(min=0, help="Stake weight that it must have; else the miners', else 20000")
    ] = None,
    silent_blocks: Annotated[
        int | None, typer.Option(min=0, help="Blocks since it set weights, at most; else 1800")
    ] = None,
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
    from celium_ops.chain.eligible import whole
    from celium_ops.cli import chain_views, views
    from celium_ops.workflows import chain

    for hotkey in (*(allow or ()), *(deny or ())):
        _check(hotkey)
    source = _source(settings, network, netuid)
    rules = chain.rules_for(source.fleet, miner)
    rules = replace(rules, **_given(min_alpha, min_total, silent_blocks, allow, deny))
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

    if hotkey:
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


def _given(
    min_alpha: int | None,
    min_total: int | None,
    silent_blocks: int | None,
    allow: list[str] | None,
    deny: list[str] | None,
) -> dict[str, Any]:
    """Return the rules that the operator gives, by their names; amounts in rao."""
    from celium_ops.chain.eligible import RAO

    rules = {
        "min_alpha": None if min_alpha is None else min_alpha * RAO,
        "min_total": None if min_total is None else min_total * RAO,
        "silent_blocks": silent_blocks,
        "allow": frozenset(allow) if allow else None,
        "deny": frozenset(deny) if deny else None,
    }
    return {name: value for name, value in rules.items() if value is not None}


def _check(hotkey: str) -> None:
    from celium_ops.fleet.values import WrongValueError, check

    try:
        check("ss58", hotkey)
    except WrongValueError as error:
        raise UsageError(f"{hotkey} is no hotkey", remedy=f"give {error}", code="wrong-hotkey") from None
