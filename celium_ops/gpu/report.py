"""The report of a host, as ``gpu prove --json`` prints it and the journal keeps it; its JSON schema is published."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from celium_ops.base.checks import Record

Verdict = Literal["accept", "reject", "unknown", "skipped"]


@dataclass(frozen=True)
class Reason:
    """What speaks against a host, or why it was not examined."""

    code: str
    message: str


@dataclass(frozen=True)
class CardReport:
    """One card, with everything that was looked at; what was not measured is null."""

    uuid: str
    name: str
    verdict: Literal["accept", "reject", "unknown"]
    proven_tflops: float | None
    tflops: float | None
    of_clock: float | None
    memory_gib: float | None
    bandwidth_gb_s: float | None
    checks: tuple[Record, ...]


@dataclass(frozen=True)
class HostReport:
    """One host: what became of it, and why."""

    name: str
    verdict: Verdict
    mode: Literal["cuda", "cpu", "simulated"] | None = None
    assurance: Literal["none", "self_reported", "cross_checked", "work_proven"] = "none"
    seconds: float = 0.0
    reasons: tuple[Reason, ...] = ()
    prediction: dict[str, Any] | None = None
    checks: tuple[Record, ...] = ()
    gpus: tuple[CardReport, ...] = ()
    not_proven: tuple[str, ...] = ()
    about: dict[str, str | None] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Tell whether nothing speaks against it: it was examined, and the work of real cards is proven."""
        if self.verdict == "skipped":
            return True
        proven = self.assurance == "work_proven" or self.mode != "cuda"
        return self.mode is not None and self.verdict != "reject" and proven

    @property
    def lacks_prover(self) -> bool:
        """Tell whether there was nothing on the host that could answer, or something of another version."""
        return any(reason.code == NO_PROVER for reason in self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


NOT_EXAMINED, NO_PROVER = "not-examined", "no-prover"


@dataclass(frozen=True)
class Document:
    """What ``gpu prove --json`` prints."""

    schema: Literal["celium-ops/gpu-prove/1"]
    ok: bool
    run: str
    mode: Literal["cuda", "cpu", "simulated"] | None
    hosts: list[HostReport]
