"""Which validators executors may be given to, what each holds of the stake, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from celium_ops.chain.snapshot import Neuron, Snapshot
from celium_ops.fleet.model import LIUM_VALIDATOR

RAO = 10**9
"""Rao of one TAO or one alpha."""

Of = Literal["permit", "active", "all"]
"""Whose stake is the whole: that of the permit holders, of those of them that are active, or of all UIDs."""


@dataclass(frozen=True)
class Rules:
    """What a validator must be like.

    Attributes:
        min_alpha: alpha that it must hold, in rao. The default is upstream's for its miner to keep it (2025-08).
        min_total: stake weight that it must have, in rao; the default is upstream's too (2025-08).
        silent_blocks: how long ago it may have set its weights; by default five tempos of 360 blocks, 6 h.
        allow: if there are any, only these hotkeys.
        deny: never these hotkeys.
        only: the single validator that upstream's miner accepts; None when it accepts any.
    """

    min_alpha: int = 10 * RAO
    min_total: int = 20_000 * RAO
    silent_blocks: int = 1_800
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    only: str | None = None


@dataclass(frozen=True)
class Judgement:
    """A neuron, and why it may not have executors; it is eligible when there is no reason."""

    neuron: Neuron
    reasons: tuple[str, ...]

    @property
    def eligible(self) -> bool:
        """Tell whether it may have executors."""
        return not self.reasons


def rules_of(values: Mapping[str, Any]) -> Rules:
    """Return the rules for a miner's executors that follow from its values in the inventory."""
    defaults = Rules()
    alpha, total = values.get("miner_min_alpha_stake"), values.get("miner_min_total_stake")
    lium = values.get("celium_dialect") == "lium"
    return Rules(
        min_alpha=defaults.min_alpha if alpha is None else int(alpha) * RAO,
        min_total=defaults.min_total if total is None else int(total) * RAO,
        allow=frozenset(values.get("miner_assign_allow") or ()),
        deny=frozenset(values.get("miner_assign_deny") or ()),
        only=(values.get("miner_default_validator") or LIUM_VALIDATOR) if lium else None,
    )


def judge(snapshot: Snapshot, rules: Rules) -> list[Judgement]:
    """Return what becomes of each neuron, those with the largest stake weight first."""
    order = sorted(snapshot.neurons, key=lambda neuron: (-neuron.total_stake, neuron.uid))
    return [Judgement(neuron, tuple(_reasons(snapshot, neuron, rules))) for neuron in order]


def whole(snapshot: Snapshot, of: Of = "permit") -> int:
    """Return the stake weight, in rao, that shares are parts of."""
    return sum(neuron.total_stake for neuron in snapshot.neurons if _counts(neuron, of))


def share(neuron: Neuron, of_all: int, of: Of = "permit") -> Fraction | None:
    """Return the part of ``whole`` that a neuron holds; None if its stake is not in it."""
    return Fraction(neuron.total_stake, of_all) if of_all and _counts(neuron, of) else None


def _counts(neuron: Neuron, of: Of) -> bool:
    return of == "all" or (neuron.validator_permit and (of == "permit" or neuron.active))


def _reasons(snapshot: Snapshot, neuron: Neuron, rules: Rules) -> Iterator[str]:
    silent = snapshot.block - neuron.last_update
    if not neuron.validator_permit:
        yield "no permit"
    if not neuron.active:
        yield "not active"
    if silent > rules.silent_blocks:
        yield f"no weights for {silent} blocks, at most {rules.silent_blocks}"
    if neuron.alpha_stake < rules.min_alpha:
        yield f"less than {_amount(rules.min_alpha)} alpha"
    if neuron.total_stake < rules.min_total:
        yield f"stake weight below {_amount(rules.min_total)}"
    yield from _by_name(neuron.hotkey, rules.allow, rules.deny, rules.only)


def _by_name(hotkey: str, allow: Collection[str], deny: Collection[str], only: str | None) -> Iterator[str]:
    if only not in (None, hotkey):
        yield "not the one validator that upstream's miner accepts"
    if hotkey in deny:
        yield "denied"
    elif allow and hotkey not in allow:
        yield "not in the list of those allowed"


def _amount(rao: int) -> str:
    coins, rest = divmod(rao, RAO)
    return f"{coins:,}" + (f".{rest:09}".rstrip("0") if rest else "")
