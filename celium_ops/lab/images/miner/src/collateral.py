"""What the command line asks the collateral contract and the chain: nothing answers, unless a stub stands in.

A lab host must never reach the subnet's public endpoints. So a call goes out only to the address in
SUBTENSOR_EVM_RPC_URL, and only when that address is not a public one; all else fails at once, with the words that
upstream has for an unreachable endpoint.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import coincurve
from Crypto.Hash import keccak
from standin import DIALECT, ss58_encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from settings import Settings

WEI_PER_TAO = 10**18
_PUBLIC_ENDPOINT = "https://lite.chain.opentensor.ai"
_TIMEOUT_SECONDS = 60
_MODULE_PREFIX = b"evm:"
_NETWORKS = ("local", "test", "finney")
"""Those whose endpoint upstream's library of 2025-12 knows; that of 2025-08 asks the SDK about others."""


class UnreachableError(Exception):
    """No endpoint answers; the text is the one of upstream's HTTP client."""


def _has_endpoint(settings: Settings) -> bool:
    return bool(DIALECT != "lium" or settings.subtensor_evm_rpc_url or settings.bittensor_network in _NETWORKS)


def warnings(settings: Settings, private_key: str | None) -> Iterator[str]:
    """Yield what upstream's library prints on stdout when it is set up, and goes on."""
    if not _has_endpoint(settings):
        yield f"Warning: Failed to connect bittensor network. Error: {settings.bittensor_network!r}"
    try:
        if private_key:
            evm_address(private_key)
    except ValueError as error:
        yield f"Warning: Failed to initialize miner account. Error: {error}"


def rpc(settings: Settings, method: str, *params: object) -> str:
    """Call the EVM endpoint and return the ``result`` of its answer.

    Raises:
        UnreachableError: there is none, it is a public one, or it does not answer.
    """
    if not _has_endpoint(settings):
        missing = "contract" if method == "eth_call" else "w3"
        raise UnreachableError(f"'CollateralContract' object has no attribute '{missing}'")
    url = settings.subtensor_evm_rpc_url or _PUBLIC_ENDPOINT
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    unreachable = f"Cannot connect to host {host}:{port}"
    if url == _PUBLIC_ENDPOINT or not _is_stub(host, port):
        raise UnreachableError(f"{unreachable} (the lab reaches no public endpoint)")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 -- a stub of the lab
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 -- as above
            return str(json.load(answer)["result"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{unreachable} [{error}]") from error


def contract_number(settings: Settings, question: str, *words: bytes) -> int:
    """Ask the contract a question that it answers with one number. The function names are the lab's own."""
    data = keccak256(question.encode())[:4] + b"".join(word.rjust(32, b"\0") for word in words)
    call = {"to": settings.contract_address, "data": "0x" + data.hex()}
    return int(rpc(settings, "eth_call", call, "latest"), 16)


def keccak256(data: bytes) -> bytes:
    """Return Ethereum's hash, which is not the sha3 of the standard library."""
    return keccak.new(data=data, digest_bits=256).digest()


def evm_address(private_key: str) -> bytes:
    """Return the 20 bytes of the Ethereum address of a private key in hex.

    Raises:
        ValueError: it is no private key.
    """
    key = coincurve.PrivateKey.from_hex(private_key.removeprefix("0x"))
    return keccak256(key.public_key.format(compressed=False)[1:])[-20:]


def mirror_address(evm: bytes) -> str:
    """Return the ss58 address under which the chain keeps the TAO of an Ethereum address."""
    return ss58_encode(hashlib.blake2b(_MODULE_PREFIX + evm, digest_size=32).digest())


def _is_stub(host: str, port: int) -> bool:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return not any(ipaddress.ip_address(address[4][0]).is_global for address in found)
