"""What validators run on a GPU host, run here first: upstream's own commands with the image that is there.

Fed to ``python3`` on the host with ``probe``. It prints one JSON object. Nothing is started beside a tenant.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from typing import Any

import probe

_KEPT = 2000


def run(command: list[str], seconds: float) -> dict[str, Any]:
    """Run a command and return its exit code, null where it did not end in time, and the end of what it said."""
    deadline, said = time.monotonic() + seconds, b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        output: Any = child.stdout
        with selectors.DefaultSelector() as ready:
            ready.register(output, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and ready.select(left):
                part = os.read(output.fileno(), 4096)
                if not part:
                    break
                said = (said + part)[-_KEPT:]
        try:
            code = child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            code = None
    return {"rc": code, "said": said.decode(errors="replace")}


def trial(asked: dict[str, Any]) -> dict[str, Any]:
    """Run the commands and return their results by name, or the reason that none was run as ``skipped``."""
    if rented := probe.rentals():
        return {"skipped": f"it is rented out ({', '.join(rented)})", "runs": {}}
    runs = {}
    for name, command in asked["commands"].items():
        runs[name] = run(command, asked["seconds"])
        if runs[name]["rc"] is None:  # Docker goes on without the program that asked for it
            subprocess.run(["docker", "rm", "-f", asked["container"]], capture_output=True, timeout=20, check=False)
    return {"skipped": None, "runs": runs}


if __name__ == "__main__":
    json.dump(trial(globals()["ASKED"]), sys.stdout)
