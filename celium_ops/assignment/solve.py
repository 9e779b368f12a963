"""The best assignment of executors to validators: coverage, then the least sum of squares, then the fewest moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd

from celium_ops.assignment.apportion import apportion, settle
from celium_ops.assignment.descent import Descent
from celium_ops.assignment.market import Market, Target
from celium_ops.assignment.model import Plan, Row, Validator
from celium_ops.assignment.report import moves, shares


def solve(
    rows: Iterable[Row],
    validators: Iterable[Validator],
    coverage: Fraction = Fraction(1, 2),
    hysteresis: Fraction | int = 0,
) -> Plan:
    """Return who should serve whom: docs/assignment.md says what is best, and why.

    The same input in any order gives the same plan, and so do stakes times any factor.

    Args:
        rows: every executor of one miner, each once, those not registered yet included.
        validators: every permit holder, each once, eligible or not.
        coverage: the share of their stake to cover, 0 to 1.
        hysteresis: moves that only lower the sum are made when together they lower it by this much or more.

    Raises:
        GuardError: no eligible validator holds stake.
        ValueError: the input contradicts itself.
    """
    if not 0 <= coverage <= 1 or hysteresis < 0:
        raise ValueError("coverage is a share, from 0 to 1, and hysteresis at least 0")
    market = Market(
        tuple(sorted(validators, key=lambda one: (-one.stake, one.hotkey))),
        tuple(sorted(rows, key=lambda row: row.executor)),
    )
    today = {row.executor: row.current for row in market.rows if row.current}
    content = {row.executor: row.current for row in market.free if row.current and row.current in market.index}
    unplaced = [row for row in market.free if row.executor not in content]
    least = _place(market, coverage, market.fixed | content, unplaced, {})
    best = _place(market, coverage, market.fixed, market.free, least)
    gain = min(market.coverage(best.values()), coverage) - min(market.coverage(least.values()), coverage)
    sum_least, sum_best = market.sum_of(least), market.sum_of(best)
    taken = gain > 0 or sum_least - sum_best >= hysteresis
    target = best if taken else least
    return Plan(
        target=target,
        free=len(market.free),
        moves=moves(market, today, target, covering=market.coverage(today.values()) < coverage),
        validators=shares(market, today, target),
        coverage_before=market.coverage(today.values()),
        coverage_after=market.coverage(target.values()),
        coverage_wanted=coverage,
        coverage_reachable=_reachable(market),
        sum_before=market.sum_of(today),
        sum_after=sum_best if taken else sum_least,
        sum_best=sum_best,
        sum_bound=_bound(market, coverage),
        taken=taken,
        held_back=sum(best[executor] != hotkey for executor, hotkey in target.items()),
    )


def _place(market: Market, coverage: Fraction, placed: Target, free: Sequence[Row], start: Target) -> dict[str, str]:
    """Place the free rows best beside those that are placed.

    Exact when the free rows weigh the same. Otherwise down from ``start``; what is missing there is placed first.
    """
    floor = _floor(market, coverage, placed, free)
    weights = sorted({row.weight for row in free})
    if len(weights) > 1:
        counts = _descended(market, placed, free, start, floor)
    else:
        counts = {weight: _apportioned(market, placed, free, floor) for weight in weights}
    target = dict(placed)
    for weight in weights:
        alike = [row for row in free if row.weight == weight]
        homeless = [row.executor for row in alike if row.current not in market.index]
        for one, names in zip(market.eligible, settle(_held(market, alike), homeless, counts[weight]), strict=True):
            target.update(dict.fromkeys(names, one.hotkey))
    return target


def _held(market: Market, rows: Iterable[Row]) -> list[list[str]]:
    """Return the executors that serve each eligible validator today."""
    held: list[list[str]] = [[] for _ in market.eligible]
    for row in rows:
        if row.current in market.index:
            held[market.index[row.current]].append(row.executor)
    return held


def _floor(market: Market, coverage: Fraction, placed: Target, free: Sequence[Row]) -> list[int]:
    """Return how many free rows each eligible validator must get for the coverage: 1 or 0.

    They go to the largest that have no row, until the coverage is reached or the rows are used up. No other choice is
    better: let v have free rows only, and w, with more stake, none. If the two change places the coverage grows, and
    the sum falls, by twice v's weight times the difference of what is due to them. Among equals go first those that
    have a row today, which saves a move.
    """
    held = Counter(row.current for row in free)
    served = set(placed.values())
    floor = [0] * len(market.eligible)
    empty = [i for i, one in enumerate(market.eligible) if one.hotkey not in served and one.stake]
    empty.sort(key=lambda i: (-market.eligible[i].stake, not held[market.eligible[i].hotkey]))
    missing = coverage - market.coverage(served)
    for i in empty[: len(free)]:
        if missing <= 0:
            break
        floor[i] = 1
        missing -= Fraction(market.eligible[i].stake, market.all_stake)
    return floor


def _apportioned(market: Market, placed: Target, free: Sequence[Row], floor: Sequence[int]) -> list[int]:
    today = Counter(row.current for row in free)
    held = [today[one.hotkey] for one in market.eligible]
    return apportion(market.needs(market.served(placed)), free[0].weight * market.stake, len(free), floor, held)


def _descended(
    market: Market, placed: Target, free: Sequence[Row], start: Target, floor: Sequence[int]
) -> dict[int, list[int]]:
    descent = Descent(market.needs(market.served(placed)), market.stake, floor)
    for row in free:
        if row.executor in start:
            descent.put(market.index[start[row.executor]], row.weight)
    descent.fill(Counter(row.weight for row in free if row.executor not in start))
    descent.descend()
    return {weight: [has[weight] for has in descent.has] for weight in {row.weight for row in free}}


def _reachable(market: Market) -> Fraction:
    """Return the most coverage that the rows can reach, those with a fixed place left where they are."""
    floor = _floor(market, Fraction(1), market.fixed, market.free)
    added = [one.hotkey for one, least in zip(market.eligible, floor, strict=True) if least]
    return market.coverage([*market.fixed.values(), *added])


def _bound(market: Market, coverage: Fraction) -> Fraction:
    """Return a sum that no plan with this coverage can beat: the best one if the free weight came in equal parts."""
    if not market.free:
        return market.sum_of(market.fixed)
    weights = [row.weight for row in market.free]
    part = gcd(*weights)
    floor = [one * min(weights) // part for one in _floor(market, coverage, market.fixed, market.free)]
    needs, step = market.needs(market.served(market.fixed)), part * market.stake
    counts = apportion(needs, step, sum(weights) // part, floor, floor)
    fallen = sum(lack**2 - (lack - step * count) ** 2 for lack, count in zip(needs, counts, strict=True))
    return market.sum_of(market.fixed) - Fraction(fallen, market.stake**2)
