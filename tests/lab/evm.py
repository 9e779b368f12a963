"""A stand-in for the EVM endpoint of a chain node: all that the miner's command line asks it is collateral."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from fleet import Fleet, broken


@dataclass
class Endpoint:
    """``tao`` is what everybody has; with null every question fails."""

    url: str
    tao: float | None
    asked: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def evm_endpoint(address: str, tao: float | None) -> Iterator[Endpoint]:
    """Answer on an address of this machine: the gateway of a Docker network, which its containers reach."""

    class Stub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if endpoint.tao is None else 200)
            self.end_headers()
            result = hex(int((endpoint.tao or 0) * 10**18))
            self.wfile.write(json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer((address, 0), Stub) as server:
        endpoint = Endpoint(f"http://{address}:{server.server_port}", tao)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield endpoint
        server.shutdown()


@contextmanager
def collateral_contract(fleet: Fleet) -> Iterator[Endpoint]:
    """Answer what the fleet's miner asks of the collateral contract; nobody has any, unless the test says so."""
    gateway = fleet.address("miner-1").rpartition(".")[0] + ".1"
    stack = "cd /opt/celium/miner"
    up = "docker compose up --detach --timeout 0 --wait miner"
    with evm_endpoint(gateway, 0) as endpoint:
        change = f"cp -p .env kept; echo SUBTENSOR_EVM_RPC_URL={endpoint.url} >> .env"
        with broken(fleet, "miner-1", f"{stack}; {change}; {up}", f"{stack}; mv kept .env; {up}"):
            yield endpoint
