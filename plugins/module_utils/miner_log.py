# SPDX-License-Identifier: MIT
"""What the log of a miner says of the chain: it answers and looks healthy, whether it can use the chain or not.

Upstream writes a line with a fixed message for each step that fails, and one when a cycle of two minutes went through
(read in its sources of 2025-08 and 2025-12). Only these messages are looked for, since strangers can have a miner log
what they send. Sent along to hosts as ``probe`` is, so Python 3.8 and its standard library are all that is needed.
"""

from __future__ import annotations

import calendar
import re
import socket
import time

try:
    from ansible_collections.celium.ops.plugins.module_utils import probe
except ImportError:  # the command line sends it along under this name
    import probe

CONTAINER = "miner-miner-1"
ANNOUNCING = "[announce] Announcing miner error"
SYNC = "[sync] Miner sync failed"
NOT_REGISTERED = "is not registered on netuid"
MARKERS = (
    NOT_REGISTERED,
    "[Error] failed initializing subtensor",
    "[check_registered] Checking miner registered failed",
    SYNC,
    ANNOUNCING,
)
"""Upstream's messages of what failed, those first that tell the most."""
DONE = "[save_validators] Sync validators"
"""Upstream's message when a cycle went through, but perhaps for its announcement."""
_BEHIND = b" >>> {"
"""What stands behind each message."""
_REGISTRATION = re.compile(rb"is not registered on netuid \d{1,5}\.$")
_WINDOW = 900
"""Seconds of the log that are read; a cycle takes two minutes, and up to a minute more while a node does not answer."""
_LINES, _BYTES, _MOST = 2000, 1 << 20, 1 << 24
_PATIENCE = 5


def trouble(log):
    """Return the message that says why the miner cannot use the chain, as its newest cycle has it; null for none."""
    found, cycle = None, set()
    for line in log.split(b"\n"):
        word = _word(line)
        if word == DONE:  # the announcement comes before it, and does not stop it
            found = ANNOUNCING if ANNOUNCING in cycle else None
            cycle = set()
        elif word:
            if word == SYNC:  # it ends the cycle, whose announcement failed with it
                cycle.discard(ANNOUNCING)
            cycle.add(word)
            found = next(marker for marker in MARKERS if marker in cycle)
    return found


def _word(line):
    head, behind, _ = line.partition(_BEHIND)
    if not behind:
        return None
    if _REGISTRATION.search(head):
        return NOT_REGISTERED
    return next((word for word in (DONE, *MARKERS) if head.endswith(word.encode())), None)


def chain_trouble():
    """Return why the miner of this host cannot use the chain, in upstream's words; null where nothing says so.

    Raises OSError or ValueError when its log cannot be read.
    """
    state = probe.docker("/containers/" + CONTAINER + "/json")["State"]
    if state["Status"] != "running":
        return None
    started = calendar.timegm(time.strptime(state["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))
    since = max(started, int(time.time()) - _WINDOW)
    return trouble(_log(f"stdout=1&stderr=1&tail={_LINES}&since={since}"))


def _log(query):
    """Return the end of the log, as bytes; bounded in time and size, whatever the engine sends."""
    deadline, read = time.monotonic() + _PATIENCE, 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(probe.ENGINE)
        path = f"/containers/{CONTAINER}/logs?{query}"
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        kept, start = b"", b""
        while read < _MOST and time.monotonic() < deadline:
            part = connection.recv(65536)
            if not part:
                if not re.match(rb"HTTP/1\.[01] 200 ", start):
                    raise ValueError("Docker does not give the log of " + CONTAINER)
                return kept
            start = (start + part)[:16]
            read += len(part)
            kept = (kept + part)[-_BYTES:]
    raise OSError(f"the log of {CONTAINER} does not end")
