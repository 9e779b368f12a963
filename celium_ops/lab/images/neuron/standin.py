"""What every neuron stand-in of the lab shares: its dialect, its label, and ss58 addresses."""

from __future__ import annotations

import hashlib
import os
import sys

import base58

DIALECT = os.environ["CELIUM_LAB_DIALECT"]
"""Whose interface is imitated: ``celium`` (upstream as of 2025-08) or ``lium`` (2025-12). Baked in at build time."""

_SS58_FORMAT = 42
_CHECKSUM_BYTES = 2


def announce(program: str) -> None:
    """Say on stderr that this is not the real neuron, so that nobody takes the lab for the subnet."""
    sys.stderr.write(f"celium-ops lab stand-in for the {DIALECT} {program}: this is not the real neuron\n")
    sys.stderr.flush()


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(b"SS58PRE" + payload).digest()[:_CHECKSUM_BYTES]


def ss58_decode(address: str) -> bytes:
    """Return the 32 bytes of the public key of an ss58 address.

    Raises:
        ValueError: not an address, or its checksum is wrong.
    """
    # base58 forgives a blank at the end, the real decoder does not.
    raw = b"" if address != address.strip() else base58.b58decode(address)
    payload, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    # One byte of format, 32 of key.
    if len(payload) != 33 or checksum != _checksum(payload):
        raise ValueError("Invalid SS58 address")
    return payload[1:]


def ss58_encode(public_key: bytes) -> str:
    """Return the ss58 address, in the generic substrate format, of a 32-byte public key."""
    payload = bytes([_SS58_FORMAT]) + public_key
    return base58.b58encode(payload + _checksum(payload)).decode()
