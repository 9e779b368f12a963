"""Stands in for the executor's API: upstream's routes, signature check and answers."""

from __future__ import annotations

import getpass
import logging
import sys
from pathlib import Path
from typing import Any

import authorized_keys
import uvicorn
from fastapi import FastAPI
from podlog import PodLogs
from pydantic import BaseModel
from settings import Settings
from signature import MinerSignature
from standin import announce

# Upstream logs every message twice; someone who counts log lines should find the same here.
logging.basicConfig(level=logging.INFO)
logging.getLogger("executor").addHandler(logging.StreamHandler())


class KeyRequest(BaseModel):
    """A validator's key, sent by the miner; that it equals the signed text is checked by nobody."""

    public_key: str


class PodLogsRequest(BaseModel):
    """Which container's events are wanted."""

    container_name: str


def create_app(settings: Settings, pod_logs: PodLogs) -> FastAPI:
    """Return the API."""
    app = FastAPI(title="compute-subnet-executor")
    app.middleware("http")(MinerSignature(settings.miner_hotkey_ss58_address))

    @app.post("/upload_ssh_key")
    def upload_ssh_key(request: KeyRequest) -> dict[str, Any]:
        """Let the key in, and tell the validator how to log in and what it may rent out."""
        authorized_keys.add(request.public_key)
        return {
            "ssh_username": getpass.getuser(),
            # 0 counts as unset.
            "ssh_port": settings.ssh_public_port or settings.ssh_port,
            "python_path": sys.executable,
            "root_dir": str(Path.cwd()),
            "port_range": settings.renting_port_range,
            "port_mappings": settings.renting_port_mappings,
            "price": settings.renting_price,
        }

    @app.post("/remove_ssh_key")
    def remove_ssh_key(request: KeyRequest) -> None:
        """Shut the key out; no word on whether it was there."""
        authorized_keys.remove(request.public_key)

    @app.post("/pod_logs")
    def pod_logs_of(request: PodLogsRequest) -> list[dict[str, Any]]:
        """Return what the monitor saw of a container."""
        return pod_logs.of_container(request.container_name)

    return app


def main() -> None:
    """Serve until stopped. Wrong settings or an absent database end the start with 1."""
    announce("executor")
    settings = Settings()
    pod_logs = PodLogs(settings.db_uri)
    pod_logs.migrate()
    uvicorn.run(
        create_app(settings, pod_logs),
        host="0.0.0.0",  # noqa: S104 -- upstream listens everywhere
        port=settings.internal_port,
        timeout_graceful_shutdown=1,  # seconds: upstream is gone in less than two
    )


if __name__ == "__main__":
    main()
