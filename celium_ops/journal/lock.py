"""One change of a fleet at a time, on this machine: a lock that dies with its holder."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from celium_ops.base.errors import GuardError


@contextmanager
def locked(fleet: Path, what: str) -> Iterator[str]:
    """Hold the lock of a fleet, ``fleet`` being its state folder; yields who holds it, since when, and for what.

    The kernel gives a flock back when its holder ends, however it ends: there is no stale lock to break.

    Raises:
        GuardError: somebody else holds it; the message says who, since when, and for what.
    """
    # "a": the text of the present holder must survive until the lock is ours.
    with (fleet / "lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise GuardError(
                f"the fleet is being changed by {stream.read().strip() or 'another process'}",
                remedy="wait until it has ended; celium-ops runs list shows it",
                code="locked",
            ) from None
        who = f"{getpass.getuser()} on {socket.gethostname()} (process {os.getpid()})"
        holder = f"{what} of {who} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        stream.truncate(0)
        stream.write(holder)
        stream.flush()
        yield holder
        stream.truncate(0)
