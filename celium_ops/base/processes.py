"""Programs that we start end when we do, however we end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# The kernel signals a program whose parent ends; one whose parent had ended before it could ask for that ends itself.
_OURS = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'
_DEAF = 'trap "" INT TERM HUP; '


def bound(command: list[str], ending: str = "KILL", deaf: bool = False) -> list[str]:
    """Return ``command`` as a program that gets the signal ``ending`` when its parent ends (Linux).

    The parent is this process, and within it the thread that starts the program: that thread has to outlive it. With
    ``deaf`` the program ignores what a terminal or a service manager sends to end us (INT, TERM, HUP).
    """
    script = _DEAF + _OURS if deaf else _OURS
    return ["setpriv", "--pdeathsig", ending, "--", "sh", "-c", script, str(os.getpid()), *command]


def children(parent: int) -> Iterator[int]:
    """Yield the processes that a process has started and that are still its children (Linux)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end while we look
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield int(stat.parent.name)


def kill_descendants(parent: int) -> None:
    """Kill all that a process has started, and what that has started; sessions of their own do not save them."""
    for child in children(parent):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)  # what stands still starts nothing more
        kill_descendants(child)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
