"""Stands in for the executor's API: upstream's routes, signature check and answers."""

from __future__ import annotations

import getpass
import logging
import sys
from pathlib import Path
from typing import Any

import authorized_keys
import lium
import uvicorn
from fastapi import FastAPI, HTTPException
from podlog import PodLogs
from pydantic import BaseModel
from settings import PROJECT, CeliumSettings, LiumSettings, load
from signature import MinerSignature
from standin import DIALECT, announce

# Upstream logs every message twice; someone who counts log lines should find the same here.
logging.basicConfig(level=logging.INFO)
logging.getLogger("executor").addHandler(logging.StreamHandler())


class KeyRequest(BaseModel):
    """A validator's key, sent by the miner."""

    public_key: str
    data_to_sign: str

    def check(self) -> None:
        """Refuse a key that is not the one that was signed. Upstream of 2025-08 takes it."""
        if DIALECT == "lium" and self.public_key.strip() != self.data_to_sign.strip():
            raise HTTPException(400, "Public key mismatch")


class PodLogsRequest(BaseModel):
    """Which container's events are wanted."""

    container_name: str


def create_app(settings: CeliumSettings | LiumSettings, pod_logs: PodLogs) -> FastAPI:
    """Return the API."""
    app = lium.create_app(settings) if isinstance(settings, LiumSettings) else FastAPI(title=PROJECT)
    app.middleware("http")(MinerSignature(*settings.hotkeys))

    @app.post("/upload_ssh_key")
    def upload_ssh_key(request: KeyRequest) -> dict[str, Any]:
        """Let the key in, and tell the validator how to log in and what it may rent out."""
        request.check()
        authorized_keys.add(request.public_key)
        answer = {
            "ssh_username": getpass.getuser(),
            # 0 counts as unset.
            "ssh_port": settings.ssh_public_port or settings.ssh_port,
            "python_path": sys.executable,
            "root_dir": str(Path.cwd()),
            "port_range": settings.renting_port_range,
            "port_mappings": settings.renting_port_mappings,
        }
        return {**answer, "price": settings.renting_price} if isinstance(settings, CeliumSettings) else answer

    @app.post("/remove_ssh_key")
    def remove_ssh_key(request: KeyRequest) -> None:
        """Shut the key out; no word on whether it was there."""
        request.check()
        authorized_keys.remove(request.public_key)

    @app.post("/pod_logs")
    def pod_logs_of(request: PodLogsRequest) -> list[dict[str, Any]]:
        """Return what the monitor saw of a container."""
        return pod_logs.of_container(request.container_name)

    return app


def main() -> None:
    """Serve until stopped. Wrong settings or an absent database end the start with 1."""
    announce("executor")
    settings = load()
    pod_logs = PodLogs(settings.db_uri)
    if pod_logs.migrate():
        sys.exit(1)
    uvicorn.run(
        create_app(settings, pod_logs),
        host="0.0.0.0",  # noqa: S104 -- upstream listens everywhere
        port=settings.internal_port,
        timeout_graceful_shutdown=1,  # seconds: upstream is gone in less than two
    )


if __name__ == "__main__":
    main()
