"""Take bytes for a moment, say how many came in which time, and give some back: how fast the way between us is.

How many bytes and seconds at most, each way, comes as JSON in the arguments. It ends by itself in any case. Our end of
the way counts with ``taken``, too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any

CHUNK = 65536
SPARE = 10
"""Seconds beside the two ways after which it ends, whoever still listens."""


def taken(source: int, most: int, seconds: float) -> dict[str, Any]:
    """Return how many bytes came after the first ones from a file descriptor, and in how many seconds."""
    count, began, last = 0, None, 0.0
    while count < most and select.select([source], [], [], SPARE if began is None else began + seconds - last)[0]:
        chunk = os.read(source, CHUNK)
        if not chunk:
            break
        last = time.monotonic()
        if began is None:  # what came before the first was read has waited on the way for who knows how long
            began = last
        else:
            count += len(chunk)
        if last >= began + seconds:
            break
    return {"bytes": count, "seconds": 0.0 if began is None else last - began}


def give(most: int, seconds: float) -> None:
    """Give bytes that no compression makes fewer."""
    block = os.urandom(2**20)
    count, until = 0, time.monotonic() + seconds
    while count < most and time.monotonic() < until:
        place = count % len(block)
        count += os.write(1, block[place : place + CHUNK])


def main(asked: dict[str, Any]) -> None:
    """Take, say, and give."""
    signal.alarm(int(2 * asked["seconds"]) + SPARE)
    print(json.dumps(taken(0, asked["bytes"], asked["seconds"])), flush=True)  # noqa: T201  # it is the answer
    give(asked["bytes"], asked["seconds"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
