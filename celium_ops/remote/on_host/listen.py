"""Answer on ports for as long as somebody listens to us: whether they can be reached is for others to find out.

The ports and the answer come as JSON in the arguments. It prints which ports it has and which somebody else has, and
ends with its standard input, after a while in any case, so that nothing stays open.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from typing import Any


def main(asked: dict[str, Any]) -> None:
    """Listen until nobody cares any more."""
    sockets = []
    for port in asked["ports"]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
            listener.listen(8)
        except OSError:  # something else has it
            continue
        sockets.append(listener)
    listening = [listener.getsockname()[1] for listener in sockets]
    print(json.dumps({"listening": listening}), flush=True)  # noqa: T201  # this is the conversation
    until = time.monotonic() + asked["seconds"]
    while time.monotonic() < until:
        ready = select.select([sys.stdin, *sockets], [], [], 1)[0]
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 1024):
            return
        for listener in (one for one in sockets if one in ready):
            # Whoever it was may be gone already.
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                connection.settimeout(1)
                connection.sendall(asked["answer"].encode())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
