"""Try whether ports can be reached from where this runs: here it is imported, on a host of the fleet it is a program.

The program hears lines of JSON, ``{"number", "tries": [[address, port, answer or null], ...], "within"}``, and says for
each, whichever is done first, ``{"number", "reached": [bool, ...]}``. It ends with its standard input, and after a
while without a question in any case, so that nothing of it stays.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

IDLE = 120
"""Seconds without a question after which the program ends, whatever happened to who asked."""


def reach(tries: Sequence[tuple[str, int, str | None]], within: float) -> list[bool]:
    """Tell of each address and port, all at once, whether it lets us connect and gives the answer that is expected.

    Args:
        tries: address, port, and the text that whoever listens begins with; null where anybody will do.
        within: seconds, for all of it; what takes longer was not reached.
    """
    until = time.monotonic() + within
    reached = [False] * len(tries)

    def one(number: int, address: str, port: int, answer: str | None) -> None:
        reached[number] = _answers(address, port, answer, until)

    # Threads that nobody waits for at the end: a name server that does not answer has no deadline.
    threads = [threading.Thread(target=one, args=(number, *wanted), daemon=True) for number, wanted in enumerate(tries)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return list(reached)


def _answers(address: str, port: int, answer: str | None, until: float) -> bool:
    wanted, heard = (answer or "").encode(), b""
    try:
        with socket.create_connection((address, port), _left(until)) as connection:
            while len(heard) < len(wanted):
                connection.settimeout(_left(until))
                part = connection.recv(len(wanted) - len(heard))
                if not part:
                    return False
                heard += part
    except (OSError, UnicodeError):  # an address that cannot be a name is refused as such
        return False
    return heard == wanted


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())  # zero would mean: do not wait at all


def _say(asked: dict[str, Any]) -> None:
    reached = reach(asked["tries"], asked["within"])
    # At once and without a buffer, whose lock a thread could hold when the program ends: Python dumps core then.
    os.write(1, json.dumps({"number": asked["number"], "reached": reached}).encode() + b"\n")


def main() -> None:
    """Answer until nobody asks any more."""
    signal.alarm(IDLE)
    for line in sys.stdin:
        signal.alarm(IDLE)
        threading.Thread(target=_say, args=(json.loads(line),), daemon=True).start()
    os._exit(0)  # whatever is still tried


if __name__ == "__main__":
    main()
