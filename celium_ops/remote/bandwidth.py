"""How fast the way between us and a host is, over the SSH connection by which it is managed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from threading import Thread, Timer
from typing import IO, Any

from celium_ops.base.processes import bound
from celium_ops.fleet.model import Host
from celium_ops.remote.on_host.transfer import CHUNK, taken
from celium_ops.remote.ssh import CONNECT_TIMEOUT, ssh_command, why

MOST = 32 * 2**20
"""Bytes, each way."""
SECONDS = 3.0
"""Each way."""
DEADLINE = CONNECT_TIMEOUT + 2 * SECONDS + 4.0
LEAST = 2**20
ENOUGH_SECONDS = 0.5
"""Fewer bytes in less time have come through at once: they tell nothing of the way."""


@dataclass(frozen=True)
class Rates:
    """Mbit/s (10^6 bits) from here to the host (``down``, which is what it gets) and back (``up``).

    A rate that could not be measured is null; ``error`` says why nothing could be.
    """

    down: float | None = None
    up: float | None = None
    error: str | None = None


def measure(host: Host) -> Rates:
    """Measure both ways, one after the other: at most ``MOST`` bytes and ``SECONDS`` each."""
    source = resources.files("celium_ops.remote.on_host").joinpath("transfer.py").read_text()
    asked = json.dumps({"bytes": MOST, "seconds": SECONDS})
    with _running(ssh_command(host.connection, ["python3", "-I", "-S", "-c", source, asked])) as process:
        assert process.stdin  # noqa: S101  # it was asked for
        assert process.stdout  # noqa: S101  # it was asked for
        assert process.stderr  # noqa: S101  # it was asked for
        Thread(target=_feed, args=(process.stdin,), daemon=True).start()
        line = process.stdout.readline(CHUNK)
        if not line:
            words = process.stderr.read().decode(errors="replace")
            return Rates(error=why(words) or f"nothing was measured in {DEADLINE:g} s")
        try:
            down = _rate(json.loads(line))
        except (ValueError, KeyError, TypeError):
            return Rates(error=f"it says something that is no message: {line[:120]!r}")
        return Rates(down, _rate(taken(process.stdout.fileno(), MOST, SECONDS)))


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with pipes; it is over when the block is, and after the deadline."""
    pipe = subprocess.PIPE
    # A session of its own: a jump host's ssh is ended with it, and holds no pipe open.
    process = subprocess.Popen(bound(command), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    watchdog = Timer(DEADLINE, end)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        end()  # the program on the host has no reader then, and ends
        process.wait()


def _feed(stdin: IO[bytes]) -> None:
    block = os.urandom(2**20)
    with suppress(OSError, ValueError):  # it has heard enough
        for _ in range(MOST // len(block)):
            stdin.write(block)
        stdin.close()


def _rate(said: dict[str, Any]) -> float | None:
    count, seconds = int(said["bytes"]), float(said["seconds"])
    telling = count >= LEAST or seconds >= ENOUGH_SECONDS
    return count * 8 / 1e6 / seconds if telling and seconds > 0 else None
