"""Executors under collateral keep their validator, as do those whose collateral could not be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from celium_ops.assignment.model import Plan, Row
from celium_ops.remote.collateral import Amounts

Ask = Callable[[list[str]], Amounts]
"""Finds out what the contract holds for these rows."""
NAMED = 5
"""So many executors are named in a warning."""


@dataclass(frozen=True)
class Kept:
    """The rows, locked where their collateral asks for it, and the best plan for them.

    ``unread`` is why the collateral of a row that would move could not be read, by row.
    """

    rows: tuple[Row, ...]
    plan: Plan
    unread: Mapping[str, str] = field(default_factory=dict)


def keeping_collateral(rows: tuple[Row, ...], best: Callable[[Sequence[Row]], Plan], ask: Ask) -> Kept:
    """Lock the rows that would move while they are, or may be, under collateral, and plan again.

    Only rows that would move are asked for, as each question costs upstream's command line seconds; when some of them
    are locked others may have to move, and are asked for too.
    """
    known: set[str] = set()
    unread: dict[str, str] = {}
    while True:
        plan = best(rows)
        moving = [move.executor for move in plan.moves if move.action == "switch" and move.executor not in known]
        if not moving:
            return Kept(rows, plan, unread)
        known.update(moving)
        answer = ask(moving)
        if answer.unreadable is not None:
            # Nothing is known of the others either: they are not asked for, and stay as well.
            unread |= dict.fromkeys(moving, answer.unreadable)
            still = [row if row.lock or row.current is None else replace(row, lock=_doubt("")) for row in rows]
            return Kept(_locked(rows, {name: _doubt(unread[name]) for name in moving}), best(still), unread)
        amounts = dict(zip(moving, answer.amounts, strict=True))
        held = {name: f"under collateral ({one.tao:g} TAO)" for name, one in amounts.items() if one.tao}
        doubts = {name: one.why or "no reason given" for name, one in amounts.items() if one.tao is None}
        unread |= doubts
        rows = _locked(rows, held | {name: _doubt(why) for name, why in doubts.items()})


def _locked(rows: Sequence[Row], locks: Mapping[str, str]) -> tuple[Row, ...]:
    return tuple(replace(row, lock=locks[row.executor]) if row.executor in locks else row for row in rows)


def _doubt(why: str) -> str:
    return f"its collateral could not be read ({why})"


def unread_warnings(unread: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    """Return a warning for each reason why collateral could not be read; pure.

    ``names`` are those of the hosts, by row; a row without a host goes by its own name.
    """
    executors: dict[str, list[str]] = {}
    for row, why in unread.items():
        executors.setdefault(why, []).append(names.get(row, row))
    go_on = (
        "set miner_evm_rpc_url to an EVM endpoint that answers the miner, or miner_assign_keep_collateral: false to"
        " move executors whatever their collateral"
    )
    return [
        f"the collateral of {_several(found)} could not be read ({why}):"
        f" {'it stays' if len(found) == 1 else 'they stay'}; {go_on}"
        for why, found in executors.items()
    ]


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
