"""A lock on a host, held by a process there that lives as long as our SSH connection and so dies with us."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from celium_ops.base.errors import GuardError
from celium_ops.base.processes import bound
from celium_ops.fleet.model import Host
from celium_ops.remote.last_words import LastWords
from celium_ops.remote.ssh import ssh_command, why

FILE = "/run/celium-ops.lock"
DEADLINE = 20.0
"""Seconds a host gets to answer, the connection included."""
BEAT = 15.0
"""Seconds between two signs of life; a host that hears none for a minute gives the lock back."""
GRACE = 5.0
"""Seconds that giving the lock back may take."""
LONGEST_WORDS = 65536
"""Bytes in which the program's answer has to be found, after what a login shell says."""

# A connection of its own, which notices a host that is gone.
_SETTINGS = ("ControlPath=none", "ServerAliveInterval=15", "ServerAliveCountMax=3")


@contextmanager
def locked_host(host: Host, holder: str, warn: Callable[[str], None], file: str = FILE) -> Iterator[Future[None]]:
    """Ask for the lock of a host, and hold it from when the future that is yielded is done.

    ``holder`` is what others are told. A host that cannot be locked is warned about, and the future is done, too. It
    raises GuardError when somebody else holds the lock; the message says who, since when, and from where.
    """
    program = (Path(__file__).parent / "on_host" / "hold.py").read_text()
    command = ssh_command(host.connection, ["python3", "-I", "-S", "-c", program, file, holder], *_SETTINGS)
    with ThreadPoolExecutor(1) as listener, _started(command) as call:
        held = listener.submit(_held, call, host.name, warn)
        yield held
        if held.done() and not held.exception() and call.process.poll() is not None and not call.given_up:
            warn(f"the lock on {host.name} was lost on the way: another deploy may have run at the same time")


@dataclass
class _Call:
    """A program under way, and the line to it; ``over`` is set when we hang up, ``given_up`` when it says nothing."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    errors: LastWords
    over: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False


def _held(call: _Call, host: str, warn: Callable[[str], None]) -> None:
    """Return when the program holds the lock, or when it is given up."""
    said = _first_words(call.line)
    if said is None:
        call.given_up = True
        call.process.kill()
        if not call.over.is_set():
            reason = why(str(call.errors)) or f"no answer in {DEADLINE:g} s"
            warn(f"{host} cannot be locked ({reason}): a deploy from another machine would go unnoticed")
    elif said != "held":
        raise GuardError(
            f"the fleet is being changed by {said.removeprefix('busy').strip() or 'another process'}",
            host=host,
            remedy="wait until it has ended; the lock ends with it, however it ends",
            code="locked",
        )


@contextmanager
def _started(command: list[str]) -> Iterator[_Call]:
    """Start a program at the other end of a socket, give it a sign of life now and then, and hang up at the end."""
    line, theirs = socket.socketpair()
    with theirs:
        # What ends the run is not for the lock: it must outlast the run, until Ansible has ended, but never us.
        process = subprocess.Popen(
            bound(command, deaf=True), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE
        )
    assert process.stderr  # noqa: S101  # it was asked for
    call = _Call(process, line, LastWords(process.stderr))
    threading.Thread(target=_beat, args=(call,), daemon=True).start()
    with line:
        try:
            yield call
        finally:
            call.over.set()
            with suppress(OSError):  # it has hung up itself
                line.shutdown(socket.SHUT_RDWR)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _beat(call: _Call) -> None:
    with suppress(OSError):  # the host is gone, or the lock is given back
        while not call.over.wait(BEAT):
            call.line.sendall(b"\n")


def _first_words(line: socket.socket) -> str | None:
    """Return what the program says first; null when it says nothing. A login shell may say something before it."""
    deadline, said = time.monotonic() + DEADLINE, b""
    with suppress(OSError):  # too late, or gone
        while True:
            line.settimeout(max(0.001, deadline - time.monotonic()))
            more = line.recv(4096)
            said = (said + more)[-LONGEST_WORDS:]
            found = re.search(rb"^celium-lock (.*)\n", said, re.MULTILINE)
            if found or not more:
                return found[1].decode(errors="replace") if found else None
    return None
