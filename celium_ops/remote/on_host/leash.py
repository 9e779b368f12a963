"""Run a command, and end it when nobody listens to its output any more: ``leash.py COMMAND...``.

sshd tells a command that has no terminal nothing when the connection goes away; but then stdout has no reader.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

GRACE = 5
"""Seconds between asking the command to end and killing it."""


def run(command: list[str]) -> int:
    """Return the command's exit code, as a shell would give it."""
    try:
        # A session of its own, so that all that it starts can be ended with it.
        child = subprocess.Popen(command, start_new_session=True)
    except FileNotFoundError:
        hint = "; no shell reads the line: sh -c '...' does" if len(command) == 1 and " " in command[0] else ""
        sys.stderr.write(f"no such program: {command[0]}{hint}\n")
        return 127
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 126
    events = select.poll()
    events.register(1, 0)  # only that its reader is gone
    events.register(os.pidfd_open(child.pid), select.POLLIN)
    if {descriptor for descriptor, _ in events.poll()} == {1}:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
