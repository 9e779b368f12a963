"""One change of a fleet at a time: the lock on this machine and the one on the fleet's first miner, taken together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from celium_ops.fleet.model import Fleet
from celium_ops.journal.lock import locked
from celium_ops.remote.lock import locked_host


@contextmanager
def fleet_locked(fleet: Fleet, state: Path, what: str, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold both locks of a fleet, ``state`` being its state folder here.

    ``warn`` hears when its first miner cannot be locked. A fleet without one has no host that all controllers share.

    Raises:
        GuardError: somebody else holds one of them; the message says who, since when, and from where.
    """
    with fleet_lock(fleet, state, what, warn) as held:
        held.result()
        yield


@contextmanager
def fleet_lock(fleet: Fleet, state: Path, what: str, warn: Callable[[str], None]) -> Iterator[Future[None]]:
    """Ask for both locks of a fleet as ``fleet_locked`` does; they are held from when the future is done.

    Until then nothing may be read that a change is based on, but connections can be made.

    Raises:
        GuardError: somebody else holds the one of this machine; the future raises it for the other.
    """
    with locked(state, what) as holder:
        if miners := fleet.of_role("miner"):
            with locked_host(miners[0], holder, warn) as held:
                yield held
        else:
            nothing = Future[None]()
            nothing.set_result(None)
            yield nothing
