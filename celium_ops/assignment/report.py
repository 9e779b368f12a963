"""What a plan says to people: each move with its reason, and what every validator has before and after."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from functools import cache

from celium_ops.assignment.market import Market, Target
from celium_ops.assignment.model import Move, Row, Share, percent

NO_PERMIT = "it holds no validator permit"


def moves(market: Market, today: Target, target: Target, covering: bool) -> tuple[Move, ...]:
    """Return what differs, in the order of the executors' names.

    Args:
        market: the rows and the validators.
        today: hotkey by executor, of the rows that are registered.
        target: hotkey by executor, of all rows.
        covering: whether the coverage of today is less than wanted.
    """
    why_not = {one.hotkey: one.why_not for one in market.validators}
    have = market.served(today)

    @cache
    def follows(old: str, new: str) -> str:
        left, to = market.eligible[market.index[old]], market.eligible[market.index[new]]
        if covering and not have[new]:
            return f"coverage: {percent(Fraction(to.stake, market.all_stake))} of the stake had no executor"
        left_share, left_due, to_share, to_due = (
            percent(amount / market.weight)
            for amount in (Fraction(have[old]), market.due(left), Fraction(have[new]), market.due(to))
        )
        return (
            f"follows the stake: from {left_share} of the executors on {left_due} of the eligible stake"
            f" to {to_share} on {to_due}"
        )

    def reason(row: Row, new: str) -> str:
        if row.current is None:
            return "new executor, pinned" if row.fixed else "new executor"
        if row.fixed:
            return "pinned"
        if row.current not in market.index:
            return f"its validator is not eligible: {why_not.get(row.current, NO_PERMIT)}"
        return follows(row.current, new)

    return tuple(
        Move(row.executor, row.current, new, "switch" if row.current else "add", reason(row, new))
        for row in market.rows
        if (new := target[row.executor]) != row.current
    )


def shares(market: Market, today: Target, target: Target) -> tuple[Share, ...]:
    """Return what every permit holder has, the most stake first; then the hotkeys without a permit that have rows."""
    before, after = Counter(today.values()), Counter(target.values())
    known = [
        Share(
            hotkey=one.hotkey,
            why_not=one.why_not,
            stake_share=Fraction(one.stake, market.all_stake),
            due=market.due(one),
            executors_before=before[one.hotkey],
            executors_after=after[one.hotkey],
        )
        for one in market.validators
    ]
    strangers = sorted((before.keys() | after.keys()) - {one.hotkey for one in market.validators})
    return (
        *known,
        *(Share(hotkey, NO_PERMIT, Fraction(0), Fraction(0), before[hotkey], after[hotkey]) for hotkey in strangers),
    )
