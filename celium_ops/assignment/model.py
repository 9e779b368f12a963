"""What the assignment is about: executors, validators, and the plan that brings them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One executor of a miner.

    Args:
        executor: ``address:port``.
        current: the hotkey it serves today; None while it is not registered.
        lock: why it may not leave ``current`` (rented, under collateral). It beats a pin; a row that serves nobody has
            nowhere to be kept and is placed like a new one.
        pin: the hotkey that the operator wants it to serve, eligible or not.
        weight: what it is worth beside the others, at least 1: GPUs times the rate of their model.
    """

    executor: str
    current: str | None = None
    lock: str | None = None
    pin: str | None = None
    weight: int = 1

    @property
    def fixed(self) -> str | None:
        """The hotkey that it has to serve; None when the solver may choose."""
        return self.current if self.lock and self.current else self.pin


@dataclass(frozen=True, slots=True)
class Validator:
    """One holder of a permit: ``stake`` is its stake weight in rao; ``why_not`` is None when it is eligible."""

    hotkey: str
    stake: int
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One row that changes: ``from_`` is None for an executor that is added."""

    executor: str
    from_: str | None
    to: str
    action: Literal["add", "switch"]
    why: str


@dataclass(frozen=True, slots=True)
class Share:
    """What one validator has: a permit holder, or a hotkey without a permit that a row serves before or after.

    ``stake_share`` is of the stake of all permit holders. ``due`` is the weight of executors that its stake asks for:
    all weight, times its share among the eligible. ``executors_*`` count rows.
    """

    hotkey: str
    why_not: str | None
    stake_share: Fraction
    due: Fraction
    executors_before: int
    executors_after: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Who should serve whom, and how to get there.

    Args:
        target: hotkey by executor, for every row.
        free: how many rows the solver could place: those without a lock or a pin.
        moves: what differs from today, in the order of the executors' names.
        validators: the most stake first.
        coverage_before, coverage_after: the share of all permit holders' stake that eligible validators with at least
            one executor hold.
        coverage_wanted, coverage_reachable: what was asked for, and the most that these executors can reach.
        sum_before, sum_after: of the squares of (weight served - weight due), over all validators.
        sum_best: of the best plan, which is ``sum_after`` unless hysteresis held it back.
        sum_bound: no plan that reaches the coverage has a smaller sum. Equal to ``sum_best`` when all rows that may
            move weigh the same.
        taken: whether this is the best plan. If not, only what must be done is in it.
        held_back: how many rows the best plan would place elsewhere.
    """

    target: Mapping[str, str]
    free: int
    moves: tuple[Move, ...]
    validators: tuple[Share, ...]
    coverage_before: Fraction
    coverage_after: Fraction
    coverage_wanted: Fraction
    coverage_reachable: Fraction
    sum_before: Fraction
    sum_after: Fraction
    sum_best: Fraction
    sum_bound: Fraction
    taken: bool
    held_back: int

    @property
    def gap(self) -> Fraction:
        """How far the best plan found may be from the best there is, in the sum; 0 when it is proven best."""
        return self.sum_best - self.sum_bound

    @property
    def short(self) -> str | None:
        """Why the coverage stays below what was asked for; None when it does not."""
        if self.coverage_reachable >= self.coverage_wanted:
            return None
        eligible = sum((share.stake_share for share in self.validators if share.why_not is None), Fraction())
        wanted = f"{percent(self.coverage_wanted)} is wanted"
        if eligible < self.coverage_wanted:
            return f"eligible validators hold {percent(eligible)} of the stake; {wanted}"
        may_move = f"{self.free} executor{'s' if self.free != 1 else ''} that may move"
        return f"with {may_move}, {percent(self.coverage_reachable)} of the stake can be covered; {wanted}"


def percent(share: Fraction) -> str:
    """Return a share for people: ``12.3 %``."""
    return f"{float(share * 100):.1f} %"
