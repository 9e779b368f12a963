"""Errors an operator can act on: each knows its exit code, where it happened and what to do about it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class Exit(IntEnum):
    """The exit codes of the command line contract."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PENDING = 3
    GUARD = 4
    INTERRUPTED = 130


class CeliumError(Exception):
    """Something an operator must know; shown as one message, never as a traceback.

    Args:
        message: what happened, in one line.
        remedy: what to do about it.
        host: the inventory name of the host concerned.
        file: the file concerned, with ``line`` (from 1) and ``key`` where they are known.
        code: a stable name for programs that read ``--json``.
    """

    exit_code: ClassVar[Exit] = Exit.FAILED
    default_code: ClassVar[str] = "failed"

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        host: str | None = None,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.host = host
        self.file = file
        self.line = line
        self.key = key
        self.code = code or self.default_code

    def to_json(self) -> dict[str, Any]:
        """Return the ``error`` object of the ``--json`` contract; absent things are null."""
        names = ("code", "message", "host", "file", "line", "key", "remedy")
        return {name: getattr(self, name) for name in names}


class UsageError(CeliumError):
    """Wrong usage or a wrong inventory: nothing was touched (exit 2)."""

    exit_code = Exit.USAGE
    default_code = "usage"


class GuardError(CeliumError):
    """A guard stopped the command before it did harm (exit 4)."""

    exit_code = Exit.GUARD
    default_code = "guard"
