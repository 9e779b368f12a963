"""The rows of a miner's registry, as its database holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Registration:
    """One executor that a miner knows; upstream keeps (address, port) unique, and the uuid keys its collateral.

    ``price`` is in USD per GPU and hour; null when the miner keeps none (dialect celium), or "NaN".
    """

    uuid: str
    address: str
    port: int
    validator: str
    price: float | str | None = None


def by_endpoint(rows: Iterable[dict[str, Any]]) -> dict[Endpoint, Registration]:
    """Return the registrations by (address, port)."""
    registrations = (Registration(**row) for row in rows)
    return {(row.address, row.port): row for row in registrations}


def row_name(endpoint: Endpoint) -> str:
    """Return what the solver and people call an executor: address:port."""
    return "{}:{}".format(*endpoint)
