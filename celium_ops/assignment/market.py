"""What does not change while plans are compared, and the measures of a plan: all in whole numbers and fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from celium_ops.assignment.model import Row, Validator
from celium_ops.base.errors import GuardError

Target = Mapping[str, str]  # hotkey by executor


@dataclass(frozen=True)
class Market:
    """The validators, the most stake first, and the rows of one miner by name.

    Raises:
        GuardError: no eligible validator holds stake.
        ValueError: the input contradicts itself.
    """

    validators: tuple[Validator, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        for what, names in (
            ("executor", [row.executor for row in self.rows]),
            ("validator", [one.hotkey for one in self.validators]),
        ):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"the {what} {twice[0]} is given twice")
        if any(row.weight < 1 for row in self.rows) or any(one.stake < 0 for one in self.validators):
            raise ValueError("a weight is at least 1, a stake at least 0")
        if not self.stake:
            raise self._nobody()

    def _nobody(self) -> GuardError:
        reasons = Counter(one.why_not or "no stake" for one in self.validators)
        said = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items())) or "there is none"
        return GuardError(
            f"no holder of a validator permit is eligible ({said})",
            code="no-eligible-validator",
            remedy="celium-ops chain validators shows them; look at the thresholds and the allow and deny lists too",
        )

    @cached_property
    def eligible(self) -> list[Validator]:
        """Those that rows without a fixed place may serve, the most stake first."""
        return [one for one in self.validators if one.why_not is None]

    @cached_property
    def index(self) -> dict[str | None, int]:
        """Where each eligible hotkey stands in ``eligible``."""
        return {one.hotkey: i for i, one in enumerate(self.eligible)}

    @cached_property
    def fixed(self) -> dict[str, str]:
        """Hotkey by executor, of the rows that the solver may not place."""
        return {row.executor: row.fixed for row in self.rows if row.fixed}

    @cached_property
    def free(self) -> list[Row]:
        """The rows that the solver may place."""
        return [row for row in self.rows if not row.fixed]

    @cached_property
    def stake(self) -> int:
        """The stake of the eligible, in rao."""
        return sum(one.stake for one in self.eligible)

    @cached_property
    def all_stake(self) -> int:
        """The stake of all permit holders, in rao."""
        return sum(one.stake for one in self.validators)

    @cached_property
    def weight(self) -> int:
        """The weight of all rows, those with a fixed place included."""
        return sum(self._weights.values())

    @cached_property
    def _weights(self) -> dict[str, int]:
        return {row.executor: row.weight for row in self.rows}

    def due(self, validator: Validator) -> Fraction:
        """Return the weight of executors that a validator's stake asks for; 0 for one that is not eligible."""
        return Fraction(self.weight * validator.stake, self.stake) if validator.why_not is None else Fraction(0)

    def served(self, target: Target) -> Counter[str]:
        """Return the weight that each hotkey has."""
        have: Counter[str] = Counter()
        for executor, hotkey in target.items():
            have[hotkey] += self._weights[executor]
        return have

    def needs(self, have: Mapping[str, int]) -> list[int]:
        """Return what each eligible validator lacks beside the weight that it has, times the eligible stake."""
        return [one.stake * self.weight - have.get(one.hotkey, 0) * self.stake for one in self.eligible]

    def sum_of(self, target: Target) -> Fraction:
        """Return the sum of the squares of (weight served - weight due), over all hotkeys."""
        have = self.served(target)
        astray = sum(weight**2 for hotkey, weight in have.items() if hotkey not in self.index)
        return astray + Fraction(sum(lack**2 for lack in self.needs(have)), self.stake**2)

    def coverage(self, hotkeys: Iterable[str]) -> Fraction:
        """Return the share of all permit holders' stake that the eligible among these hotkeys hold."""
        held = sum(self.eligible[self.index[hotkey]].stake for hotkey in set(hotkeys) if hotkey in self.index)
        return Fraction(held, self.all_stake)
