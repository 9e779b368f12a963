"""What became of each host of a deploy, as its operator is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from celium_ops.remote.probe import waits
from celium_ops.remote.ssh import why
from celium_ops.runner.recap import RECORD, Recap, Result
from celium_ops.workflows.faults import recognise


@dataclass
class HostOutcome:
    """What became of one host.

    ``registered`` is null where it does not apply or is unknown; ``remedy`` says what to do about a known
    fault; ``unassigned`` that an executor came up and waits for a validator, ``missing`` that it waits to be
    registered; ``refused`` that it is registered for a validator that its miner does not accept; ``code`` names the
    error for programs; ``waits`` are the changes that were left for the end of a rental; ``postponed`` are rows of
    a miner that are removed when nothing is missing any more; ``proof`` is the verdict on an executor's GPUs, where
    they were looked at; ``leftovers`` are the rows of a miner's registry that no host of the inventory has.
    """

    name: str
    result: Result
    changed: int = 0
    seconds: float = 0.0
    error: str | None = None
    remedy: str | None = None
    code: str | None = None
    registered: bool | None = None
    unassigned: bool = False
    missing: bool = False
    refused: bool = False
    proof: str | None = None
    waits: list[dict[str, Any]] = field(default_factory=list)
    postponed: list[dict[str, Any]] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the host as ``deploy --json`` promises it."""
        shown = {key: value for key, value in vars(self).items() if key not in ("missing", "postponed")}
        return {**shown, "seconds": round(self.seconds, 1)}

    def add(self, other: HostOutcome) -> None:
        """Take what a later play did to the same host: what it failed at stays failed."""
        self.changed += other.changed
        self.seconds += other.seconds
        self.changes += other.changes
        self.differences += other.differences
        self.waits = self.waits or other.waits
        if other.result != "ok":
            self.result, self.error, self.remedy, self.code = other.result, other.error, other.remedy, other.code


def outcome_of(name: str, recap: Recap) -> HostOutcome:
    """Return what became of a host in a run; pure."""
    host = recap.hosts.get(name)
    if host is None:
        words = recap.messages[-1] if recap.messages else "Ansible ended early"
        return HostOutcome(name, "failed", error=f"was never reached: {words}")
    error = why(host.error) if host.result == "unreachable" and host.error else host.error
    outcome = HostOutcome(name, host.result or "failed", host.changed, host.seconds, *explained(error))
    outcome.code = host.code or (fault.code if (fault := recognise(error or "")) else None)
    outcome.waits = [asdict(one) for one in waits(recap.outputs.get(RECORD, {}).get(name, {}).get("waits"))]
    outcome.changes = host.changes
    outcome.differences = host.differences
    return outcome


def explained(error: str | None) -> tuple[str | None, str | None]:
    """Return an error with its cause before it, and what to do about it, where the fault is a known one; pure."""
    fault = recognise(error or "")
    return (f"{fault.cause}: {error}", fault.remedy) if fault else (error, None)
