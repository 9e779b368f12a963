"""Stands in for a connection to the subnet's servers. It tries nothing: a lab must not reach for public addresses.

What it shows is what upstream's connectors show offline: a line per failed attempt, and pauses that grow to a minute.
"""

from __future__ import annotations

import itertools
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("connector")

_LONGEST_PAUSE_SECONDS = 60.0


def pauses() -> Iterator[float]:
    """Yield the seconds between the attempts: 2.7, 3.1, 5.0, 8.1 and on, each 1.618 times the one before."""
    yield 2.7
    for attempt in itertools.count(1):
        yield min(1.92 * 1.618 ** min(attempt, 20), _LONGEST_PAUSE_SECONDS)


def keep_trying(target: str) -> None:
    """Go through the motions for ever."""
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for pause in pauses():
        logger.error("connecting to %s failed: no portal in the lab; again in %.1f seconds", target, pause)
        time.sleep(pause)
