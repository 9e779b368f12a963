"""How a subnet looks: tables for people. Amounts are shown rounded; ``--json`` has them to the rao."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from celium_ops.cli.views import out

if TYPE_CHECKING:
    from celium_ops.chain.snapshot import Snapshot
    from celium_ops.workflows.chain import MinerStanding, ValidatorStake

_WHOLE = {"permit": "all permit holders", "active": "the active permit holders", "all": "all UIDs"}
_PROTECTED = {
    "owner": "never evicted: it is the subnet owner's",
    "floor": "not evicted now: the chain keeps the last UIDs that are not immune",
}


def show_validators(found: Snapshot, rows: list[ValidatorStake], of: str) -> None:
    """Show who holds the stake."""
    from rich.table import Table

    console = out()
    console.print(_head(found))
    table = Table(box=None, pad_edge=False)
    for column in ("UID", "hotkey", "stake weight", "share", "permit", "active", "updated", "eligible"):
        right = column in ("UID", "stake weight", "share", "updated")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "hotkey")
    for row in rows:
        share = "" if row.stake_share is None else f"{row.stake_share:.2%}"
        eligible = "[green]yes[/]" if row.eligible else f"[yellow]{', '.join(row.reasons)}[/]"
        marks = (_mark(row.validator_permit), _mark(row.active), f"{row.blocks_since_update}", eligible)
        table.add_row(f"{row.uid}", row.hotkey, _coins(row.total_stake), share, *marks)
    console.print(table)
    eligible_share = sum(row.stake_share or 0 for row in rows if row.eligible)
    count = sum(row.eligible for row in rows)
    console.print(f"{count} eligible validators hold {eligible_share:.2%}; shares are of the stake of {_WHOLE[of]}")


def show_miners(found: Snapshot, rows: list[MinerStanding]) -> None:
    """Show how miners stand, then how near each is to its eviction."""
    from rich.table import Table

    console = out()
    console.print(_head(found))
    table = Table(box=None, pad_edge=False)
    for column in ("host", "hotkey", "UID", "active", "stake", "incentive", "emission", "updated", "axon"):
        right = column in ("UID", "stake", "incentive", "emission", "updated")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "hotkey")
    for row in rows:
        if row.registered:
            amounts = (_coins(row.total_stake), f"{row.incentive:.5f}", _coins(row.emission))
            where = (f"{row.blocks_since_update}", row.axon or "[yellow]none[/]")
            table.add_row(row.host or "", row.hotkey, f"{row.uid}", _mark(row.active), *amounts, *where)
        else:
            table.add_row(row.host or "", row.hotkey, "[red]not registered[/]")
    console.print(table)
    for row in rows:
        console.print(_outlook(found, row))
    free = max(0, found.subnet.max_uids - len(found.neurons))
    allowed = "" if found.subnet.registration_allowed else ", registration is closed"
    console.print(
        f"{free} of {found.subnet.max_uids} slots free, a registration burns {_coins(found.subnet.burn)} TAO{allowed}"
    )


def show_snapshot(found: Snapshot, file: Path) -> None:
    """Show what was written."""
    from rich.markup import escape

    console = out()
    console.print(_head(found))
    console.print(f"wrote {escape(str(file))}: {len(found.neurons)} UIDs")


def _head(found: Snapshot) -> str:
    from rich.markup import escape

    name = escape(f"{found.subnet.name} on {found.network}")
    return f"subnet {found.netuid} {name}, block {found.block} of {found.block_time:%Y-%m-%d %H:%M:%S} UTC"


def _outlook(found: Snapshot, row: MinerStanding) -> str:
    """Return a miner's prospects in a line: its registration, its immunity, its place in the order of eviction."""
    name = row.host or row.hotkey
    if not row.registered:
        return f"[red]{name}[/] is not registered on subnet {found.netuid}: nobody there can find it"
    immune = f"immune for {row.immune_blocks} blocks" if row.immune_blocks else "no longer immune"
    parts = [f"registered at block {row.registered_at}", immune]
    if row.protection:
        parts.append(_PROTECTED[row.protection])
    else:
        colour = "red" if (row.registrations_until_eviction or 0) <= 5 else "default"
        nth = f"number {row.eviction_rank} to be evicted"
        parts.append(f"[{colour}]{nth}, by registration {row.registrations_until_eviction} from now[/]")
    if row.axon_differs:
        parts.append(f"[yellow]its axon on chain is {row.axon or 'none'}, the inventory says {row.axon_expected}[/]")
    return f"{name}: {', '.join(parts)}"


def _coins(rao: int | None) -> str:
    return f"{(rao or 0) / 10**9:,.3f}"


def _mark(value: bool | None) -> str:
    return "yes" if value else "[yellow]no[/]"
