"""A program on a host that is talked to: JSON, a line at a time, both ways, each line with the moment it came.

OpenSSH itself carries it, as megabytes are said.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from types import TracebackType
from typing import Any, Self

from celium_ops.base.processes import bound
from celium_ops.fleet.model import Host
from celium_ops.remote.ssh import ssh_command, why

LONGEST_LINE = 8 * 2**20
"""Bytes; what is opened of a card with the largest matrices at once takes a tenth of it."""
MOST_UNHEARD = 256
"""Lines that wait to be received; more are not read."""
GRACE = 5.0
_LAST_WORDS = 4096
_HINTS = ("Run 'docker", "See 'docker")
"""How Docker ends what it has to say of a mistake."""


class Conversation:
    """One program, run as root on a host; it ends when the ``with`` block does."""

    def __init__(self, host: Host, command: list[str]) -> None:
        self.command = ssh_command(host.connection, command, "ServerAliveInterval=5", "ServerAliveCountMax=4")
        self.heard: queue.Queue[tuple[dict[str, Any], float] | ConnectionError] = queue.Queue(MOST_UNHEARD)
        self.errors = b""
        self.over: ConnectionError | None = None

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(bound(self.command), stdin=pipe, stdout=pipe, stderr=pipe)
        self.threads = [threading.Thread(target=listen, daemon=True) for listen in (self._listen, self._complaints)]
        for thread in reversed(self.threads):  # who listens waits for the complaints when a program ends at once
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin  # noqa: S101  # it was asked for
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # it ends when nobody talks to it any more
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def send(self, message: dict[str, Any]) -> None:
        """Say something.

        Raises:
            ConnectionError: nobody listens.
        """
        assert self.process.stdin  # noqa: S101  # it was asked for
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def receive(self, seconds: float) -> tuple[dict[str, Any], float]:
        """Return what is said next, and when it came (``time.monotonic``).

        Raises:
            TimeoutError: nothing, in this time.
            ConnectionError: nothing more will be; with the reason.
        """
        if self.over:
            raise self.over
        try:
            heard = self.heard.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(heard, ConnectionError):
            self.over = heard
            raise heard
        return heard

    def _listen(self) -> None:
        assert self.process.stdout  # noqa: S101  # it was asked for
        while line := self.process.stdout.readline(LONGEST_LINE):
            at = time.monotonic()
            try:
                message = json.loads(line, parse_constant=_refuse)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                self.heard.put(ConnectionError(f"it says something that is no message: {line[:120]!r}"))
                return
            self.heard.put((message, at))
        self.heard.put(self._lost())

    def _complaints(self) -> None:
        assert self.process.stderr  # noqa: S101  # it was asked for
        while data := self.process.stderr.read1():  # type: ignore[attr-defined]
            self.errors = (self.errors + data)[-_LAST_WORDS:]

    def _lost(self) -> ConnectionError:
        self.threads[1].join(GRACE)
        lines = self.errors.decode(errors="replace").splitlines()
        words = why("\n".join(line for line in lines if not line.startswith(_HINTS)))
        return ConnectionError(words or "the program ended and said nothing")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
