"""Stands in for the portal connector. It tries nothing: a lab must not reach for the public portal.

What it shows is what upstream's shows offline: a line per failed attempt, and pauses that grow up to a minute.
"""

from __future__ import annotations

import itertools
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING

from settings import Settings
from standin import announce
from wallet import imitate_sdk_import, open_hotkey

if TYPE_CHECKING:
    from collections.abc import Iterator

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("connector")

_LONGEST_PAUSE_SECONDS = 60.0


def pauses() -> Iterator[float]:
    """Yield the seconds between the attempts: 2.7, 3.1, 5.0, 8.1 and on, each 1.618 times the one before."""
    yield 2.7
    for attempt in itertools.count(1):
        yield min(1.92 * 1.618 ** min(attempt, 20), _LONGEST_PAUSE_SECONDS)


def main() -> None:
    """Go through the motions for ever."""
    announce("connector")
    imitate_sdk_import()
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = Settings()
    target = f"{settings.miner_portal_uri}/api/miners/{open_hotkey(settings)}"
    for pause in pauses():
        logger.error("connecting to %s failed: no portal in the lab; again in %.1f seconds", target, pause)
        time.sleep(pause)


if __name__ == "__main__":
    main()
