"""Run one command on one host."""

from __future__ import annotations

from pathlib import Path

from celium_ops.fleet.inventory import load_fleet
from celium_ops.remote.streams import Streams


def execute(inventory: Path, name: str, command: list[str], streams: Streams) -> int | None:
    """Run a command as root on a host, connected with ``streams``; return its exit code, null after a signal.

    Raises:
        UsageError: the inventory is wrong, or there is no such host.
        CeliumError: the host cannot be reached, or goes away.
        KeyboardInterrupt: ctrl-c; the command was told to end.
    """
    from celium_ops.remote.session import run

    return run(load_fleet(inventory).host(name), command, streams)
