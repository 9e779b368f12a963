"""What ``preflight --json`` prints; its JSON schema, ``docs/preflight.schema.json``, is made from this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from celium_ops.base.checks import Check
from celium_ops.fleet.model import Role


@dataclass(frozen=True)
class Reason:
    """What speaks against a host, or what is not known of it, by the validator's rules."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Facts:
    """What the prediction rests on: of the host, and of each card."""

    host: dict[str, Any]
    cards: list[dict[str, Any]]


@dataclass(frozen=True)
class Prediction:
    """What the validator would say, by the edition of its rules in ``ruleset``."""

    verdict: Literal["accept", "reject", "unknown"]
    ruleset: str
    reasons: list[Reason]
    facts: Facts


@dataclass(frozen=True)
class HostEntry:
    """One host; ``rented`` is null where nobody can tell, ``prediction`` for what is no executor or only rehearses."""

    name: str
    role: Role
    reachable: bool
    rented: bool | None
    ok: bool
    checks: list[Check]
    prediction: Prediction | None


@dataclass(frozen=True)
class Document:
    """The document; ``tried_from`` is the host from which ports were tried, null for where celium-ops ran."""

    schema: Literal["celium-ops/preflight/1"]
    ok: bool
    tried_from: str | None
    hosts: list[HostEntry]
