"""The EVM endpoint of the simulated chain: a collateral contract that holds nothing for any executor.

On a real node it shares the port of the websocket, which the websocket library here has no way to do. No fault of the
chain touches it, and it keeps no state.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LONGEST_REQUEST = 65536
_ANSWERS = {
    "eth_call": "0x" + 64 * "0",
    "eth_getBalance": "0x0",
    "eth_blockNumber": "0x1",
    "eth_chainId": hex(964),
}


def answer(asked: Any) -> dict[str, Any]:
    """Return the answer to one JSON-RPC request; pure."""
    asked = asked if isinstance(asked, dict) else {}
    reply = {"jsonrpc": "2.0", "id": asked.get("id")}
    method = asked.get("method")
    if isinstance(method, str) and method in _ANSWERS:
        return {**reply, "result": _ANSWERS[method]}
    return {**reply, "error": {"code": -32601, "message": "Method not found (simulated chain)"}}


class _Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self) -> None:
        """Answer one JSON-RPC request."""
        try:
            length = int(self.headers.get("Content-Length", "0"))
            content = json.dumps(answer(json.loads(self.rfile.read(min(length, _LONGEST_REQUEST))))).encode()
        except (ValueError, RecursionError):
            self.send_error(400)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(host: str, port: int) -> ThreadingHTTPServer:
    """Answer in a thread that ends with the program; with port 0 the system chooses one.

    Raises:
        OSError: the port is taken.
    """
    server = ThreadingHTTPServer((host, port), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
