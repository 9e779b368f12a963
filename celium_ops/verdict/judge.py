"""What the validator would say of a host: accept, reject or unknown, why, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from celium_ops.verdict.rules import Facts, Finding
from celium_ops.verdict.ruleset import Gate, RuleSet

Prediction = Literal["accept", "reject", "unknown"]
Status = Literal["pass", "warn", "fail", "skipped", "unknown"]


@dataclass(frozen=True)
class Host:
    """What was measured of a host. A fact that nobody looked at is absent; one that the host does not have is null.

    Args:
        facts: those of the host as a whole; ``rented`` decides which gates look at it.
        cards: those of each card, in the driver's order, each with its ``uuid``.
    """

    facts: Facts
    cards: Sequence[Facts] = ()


@dataclass(frozen=True)
class Check:
    """What one gate says of the host or of one of its cards."""

    id: str
    status: Status
    code: str | None
    effect: str
    measured: str | None
    required: str
    unit: str | None
    message: str
    remedy: str
    card: str | None = None

    @property
    def enforced(self) -> bool:
        """Tell whether failing costs anything."""
        return self.effect != "shadow"


@dataclass(frozen=True)
class Verdict:
    """What the validator would say, by which rules, and why.

    It is ``accept`` only when every gate that anything shows on this side was looked at and passes. The gates that
    nothing shows (a list of bans, the history of rentals) are ``unknown`` among the checks and hold up no verdict.
    """

    prediction: Prediction
    ruleset: str
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[Check]:
        """Return what stands in the way: the failures of a rejected host, else what is not known."""
        wanted = "fail" if self.prediction == "reject" else "unknown"
        return [check for check in self.checks if check.status == wanted and check.enforced]


def judge(host: Host, rules: RuleSet, before: Host | None = None) -> Verdict:
    """Return the verdict on a host; ``before`` is how it was when a validator last accepted it."""
    checks = tuple(check for gate in rules.gates for check in _checks(gate, host, rules, before))
    seen = {gate.id for gate in rules.gates if gate.observable}
    counting = [check for check in checks if check.enforced and check.id in seen]
    if any(check.status == "fail" for check in counting):
        return Verdict("reject", rules.name, checks)
    return Verdict("unknown" if any(check.status == "unknown" for check in counting) else "accept", rules.name, checks)


def _checks(gate: Gate, host: Host, rules: RuleSet, before: Host | None) -> Iterator[Check]:
    rented = host.facts.get("rented")
    if gate.when != "always" and rented is not None and rented != (gate.when == "rented"):
        yield _check(gate, "skipped", Finding("pass", None, f"only of hosts that are {gate.when}"), None)
        return
    if gate.of == "host":
        yield _judged(gate, host.facts, before.facts if before else None, rules, None)
        return
    known = {card.get("uuid"): card for card in (before.cards if before else ())}
    for card in host.cards[:1] if gate.of == "first" else host.cards:
        # What the driver tells of the host is the same for all of its cards.
        yield _judged(gate, {**host.facts, **card}, known.get(card.get("uuid")), rules, card.get("uuid"))


def _judged(gate: Gate, facts: Facts, before: Facts | None, rules: RuleSet, card: str | None) -> Check:
    finding = gate.rule.judge(facts, before, rules.tables)
    result = gate.missing if finding.result == "missing" else finding.result
    status: Status = "warn" if result == "fail" and gate.effect == "shadow" else result
    return _check(gate, status, finding, card)


def _check(gate: Gate, status: Status, finding: Finding, card: str | None) -> Check:
    measured = finding.measured or ("none" if finding.result == "missing" else None)
    said = f"{measured}; required: {finding.required}" if measured else finding.required
    if finding.result == "missing":
        said = f"the host does not tell; the validator then takes it for {gate.missing}"
    return Check(
        gate.id, status, gate.code, gate.effect, measured, finding.required, gate.unit, said, gate.remedy, card
    )
