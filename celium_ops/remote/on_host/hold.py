"""Hold the lock of this host for whoever is at the other end of stdin, and no longer: ``hold.py FILE HOLDER``.

Says ``celium-lock held``, or ``celium-lock busy`` and who has it. The kernel gives a flock back when its holder ends,
however it ends; the holder ends when stdin does, or when it has been silent for a minute, as after a power cut.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

PATIENCE = 1.0
"""Seconds to wait for a lock whose holder may just be dying."""
SILENCE = 60.0


def hold(path: str, holder: str) -> None:
    """Take the lock, say so, and keep it as long as somebody is there."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except TimeoutError:
        print("celium-lock busy", os.pread(lock, 4096, 0).decode(errors="replace").strip(), flush=True)  # noqa: T201 - its only way to answer
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.ftruncate(lock, 0)
    os.pwrite(lock, holder.encode(errors="replace"), 0)
    print("celium-lock held", flush=True)  # noqa: T201 - its only way to answer
    while select.select([0], [], [], SILENCE)[0] and os.read(0, 4096):
        pass
    os.ftruncate(lock, 0)


def _too_long(_signal: int, _frame: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    hold(*sys.argv[1:])
