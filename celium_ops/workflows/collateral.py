"""Executors under collateral keep their validator: whoever a plan would move is asked for its collateral first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from celium_ops.assignment.model import Plan, Row

Ask = Callable[[list[str]], Sequence[float | None]]
"""Returns the TAO that the contract holds for each of these rows; null where nobody can tell."""


def keeping_collateral(
    rows: tuple[Row, ...], best: Callable[[Sequence[Row]], Plan], ask: Ask
) -> tuple[tuple[Row, ...], Plan]:
    """Return the rows, locked where they are under collateral, and the best plan for them.

    Only rows that would move are asked for, as each question costs upstream's command line seconds; when some of them
    are locked others may have to move, and are asked for too. One that nobody can tell about may move: its uuid, the
    key of its collateral, stays.
    """
    known: set[str] = set()
    while True:
        plan = best(rows)
        moving = [move.executor for move in plan.moves if move.action == "switch" and move.executor not in known]
        amounts: Mapping[str, float | None] = dict(zip(moving, ask(moving), strict=True)) if moving else {}
        if not any(amounts.values()):
            return rows, plan
        known.update(moving)
        rows = tuple(
            replace(row, lock=f"under collateral ({amount:g} TAO)") if (amount := amounts.get(row.executor)) else row
            for row in rows
        )
