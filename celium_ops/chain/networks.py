"""The networks by name: where their nodes are, and the first block that proves that a node is one of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from celium_ops.base.errors import UsageError

NETUID = 51
"""Our subnet's number on the main chain."""
BLOCK_SECONDS = 12
"""What a block of the chain takes."""


@dataclass(frozen=True)
class Network:
    """A chain that can be read.

    Attributes:
        name: ``finney``, ``test``, ``local``, or where the one node is, as ``shown`` says it.
        endpoints: its nodes, the one to ask first at the beginning; those at the end keep the state of old blocks.
        genesis: the hash of its first block; None when any will do.
    """

    name: str
    endpoints: tuple[str, ...]
    genesis: str | None = None


# Endpoints: those that the SDK 11.3.0 knows (2026-11), the archives last. First blocks: finney's as in the SDK, test's
# as reported for its public node (2026-09).
_KNOWN = (
    Network(
        "finney",
        (
            "wss://entrypoint-finney.opentensor.ai:443",
            "wss://lite.chain.opentensor.ai:443",
            "wss://lite.sub.latent.to:443",
            "wss://archive.chain.opentensor.ai:443",
            "wss://archive.sub.latent.to:443",
        ),
        "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03",
    ),
    Network(
        "test",
        ("wss://test.finney.opentensor.ai:443",),
        "0x8f9cf856bf558a14440e75569c9e58594757048d7b3a84b5d25f6bd978263105",
    ),
    Network("local", ("ws://127.0.0.1:9944",)),
)
NETWORKS = {network.name: network for network in _KNOWN}


def find(name: str) -> Network:
    """Return a network by its name, or by the ``ws://`` or ``wss://`` address of a node.

    Raises:
        UsageError: it is neither.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if name.startswith(("ws://", "wss://")) and shown(name):
        return Network(shown(name), (name,))
    raise UsageError(
        f"{name} is no network",
        remedy=f"one of {', '.join(NETWORKS)}, the ws:// or wss:// address of a node, or a snapshot file (.json)",
        code="no-such-network",
    )


def shown(endpoint: str) -> str:
    """Return an endpoint as it may be shown, empty if it is none: providers put the keys of customers into the rest."""
    try:
        parts = urlsplit(endpoint)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{host}{port}" if host else ""
