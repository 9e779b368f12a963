"""Stands in for the monitor: writes what Docker says about the containers of tenants into the table podlog."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from podlog import PodLog, PodLogs
from settings import load
from sqlalchemy.exc import SQLAlchemyError
from standin import announce

if TYPE_CHECKING:
    from collections.abc import Iterator

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("monitor")

_DOCKER_SOCKET = "/var/run/docker.sock"
_EVENTS = ("start", "stop", "restart", "kill", "destroy", "oom", "die")
_PREFIX = "container_"
_REASONS = {
    0: "purposely_stopped",
    1: "application_error",
    125: "container_failed_to_run",
    126: "command_invoke_error",
    127: "file_or_directory_not_found",
    128: "invalid_argument_on_exit",
    134: "abnormal_termination",
    137: "immediate_termination",
    139: "segmentation_fault",
    143: "graceful_termination",
    255: "exit_status_out_of_range",
}
"""What upstream makes of an exit code; here no kernel message makes it a ``gpu_error``."""
_RETRY_SECONDS = 5


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, which is how Docker's API is spoken to."""

    def connect(self) -> None:
        """Connect to Docker's socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(_DOCKER_SOCKET)


def docker_events() -> Iterator[dict[str, Any]]:
    """Yield the container events of the Docker engine as they happen, until it ends the stream."""
    wanted = quote(json.dumps({"type": ["container"], "event": list(_EVENTS)}))
    connection = UnixConnection("docker")
    connection.request("GET", f"/events?filters={wanted}")
    answer = connection.getresponse()
    logger.info("watching the events of the Docker engine")
    while line := answer.readline():
        yield json.loads(line)


def to_entry(event: dict[str, Any], hotkey: str) -> PodLog | None:
    """Return the row for an event of a tenant's container, None for another; an exit code comes with ``die`` only."""
    attributes = event["Actor"]["Attributes"]
    name = attributes.get("name", "")
    # One with the miner's hotkey is the validator's own.
    if not name.startswith(_PREFIX) or name == _PREFIX + hotkey:
        return None
    code = int(attributes.get("exitCode", 0)) if event["Action"] == "die" else None
    return PodLog(
        container_name=name,
        container_id=event["Actor"]["ID"],
        event=event["Action"],
        exit_code=code,
        reason=None if code is None else _REASONS.get(code, "unknown"),
    )


def watch(pod_logs: PodLogs, hotkey: str) -> None:
    """Write events until the stream or the database breaks."""
    for event in docker_events():
        entry = to_entry(event, hotkey)
        if entry is None:
            continue
        pod_logs.add(entry)
        logger.info("%s: %s", entry.container_name, entry.event)


def main() -> None:
    """Watch for ever: neither Docker nor Postgres being away ends the monitor."""
    announce("monitor")
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load()
    pod_logs = PodLogs(settings.db_uri)
    while True:
        try:
            pod_logs.migrate()
            watch(pod_logs, settings.miner_hotkey_ss58_address)
        except (OSError, http.client.HTTPException, SQLAlchemyError) as error:
            logger.error("cannot watch: %s; again in %d seconds", error, _RETRY_SECONDS)
        time.sleep(_RETRY_SECONDS)


if __name__ == "__main__":
    main()
