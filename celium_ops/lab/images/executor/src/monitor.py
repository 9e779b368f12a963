"""Stands in for the monitor: writes what Docker says about the host's containers into the table podlog."""

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
_EVENTS = ("create", "start", "die", "oom", "kill", "stop", "destroy")
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


def to_entry(event: dict[str, Any]) -> PodLog:
    """Return the row for an event; an exit code comes with ``die`` only."""
    attributes = event["Actor"]["Attributes"]
    code = attributes.get("exitCode")
    return PodLog(
        container_name=attributes.get("name"),
        container_id=event["Actor"]["ID"],
        event=event["Action"],
        exit_code=int(code) if code is not None else None,
        reason="out of memory" if event["Action"] == "oom" else None,
    )


def watch(pod_logs: PodLogs) -> None:
    """Write events until the stream or the database breaks."""
    for event in docker_events():
        entry = to_entry(event)
        pod_logs.add(entry)
        logger.info("%s: %s", entry.container_name, entry.event)


def main() -> None:
    """Watch for ever: neither Docker nor Postgres being away ends the monitor."""
    announce("monitor")
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pod_logs = PodLogs(load().db_uri)
    while True:
        try:
            pod_logs.migrate()
            watch(pod_logs)
        except (OSError, http.client.HTTPException, SQLAlchemyError) as error:
            logger.error("cannot watch: %s; again in %d seconds", error, _RETRY_SECONDS)
        time.sleep(_RETRY_SECONDS)


if __name__ == "__main__":
    main()
