"""The assignment kept in step with the stake: once in every tempo, for as long as we are let."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.runner.playbook import OnHost
from celium_ops.workflows.assign import Wish
from celium_ops.workflows.move import Applied, apply

SECONDS_PER_BLOCK = 12
AGAIN = 300.0
"""Seconds until the next try after one that failed; after each further one twice as long, up to a tempo."""


@dataclass(frozen=True)
class Tick:
    """One round: what was applied, or why nothing was; and the seconds until the next."""

    applied: Applied | None
    error: CeliumError | None
    pause: float


def watch(wish: Wish, on_tick: Callable[[Tick], None], on_host: OnHost, warn: Callable[[str], None]) -> None:
    """Apply the best assignment shortly after each epoch of the subnet, until ctrl-c.

    A round that fails changes nothing and is tried again; only a wrong inventory ends the watch.

    Raises:
        UsageError: the inventory is wrong.
        KeyboardInterrupt: ctrl-c, or a signal that the program handles like it.
    """
    failures, tempo = 0, 360
    while True:
        try:
            applied, error = apply(wish, lambda _assignment: None, on_host, warn), None
        except UsageError:
            raise
        except CeliumError as caught:
            applied, error = None, caught
        if applied and not applied.errors:
            failures, tempo = 0, applied.assignment.snapshot.subnet.tempo
            pause = until_next_epoch(applied)
        else:
            pause = min(AGAIN * 2 ** min(failures, 10), float(tempo * SECONDS_PER_BLOCK))
            failures += 1
        on_tick(Tick(applied, error, pause))
        time.sleep(pause)


def until_next_epoch(applied: Applied) -> float:
    """Return the seconds until the stake has been counted again, and a little more so that all nodes know it."""
    snapshot = applied.assignment.snapshot
    blocks = snapshot.subnet.tempo - (snapshot.block - snapshot.subnet.last_step) % max(snapshot.subnet.tempo, 1)
    # Not all fleets at the same moment: public nodes count requests.
    return float((blocks + 2) * SECONDS_PER_BLOCK + random.uniform(0, 60))  # noqa: S311 - a pause is no secret
