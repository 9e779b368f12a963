"""One thing that was looked at on a host, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Status = Literal["pass", "warn", "fail", "error", "skipped", "unsupported", "unknown"]


@dataclass(frozen=True)
class Record:
    """A check as reports have it; ``code`` names why it is not well."""

    id: str
    status: Status
    message: str
    measured: str | None = None
    required: str | None = None
    remedy: str | None = None
    code: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Check(Record):
    """``card`` is the UUID of the card it is about, null for the host."""

    card: str | None = None

    def record(self) -> Record:
        """Return it for where its card is known."""
        return Record(**{field.name: getattr(self, field.name) for field in fields(Record)})
