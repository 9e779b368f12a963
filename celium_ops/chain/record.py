"""What a node says of a subnet, as the SDK decodes it, and the snapshot that it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pydantic import ValidationError

from celium_ops.base.errors import CeliumError
from celium_ops.chain.snapshot import Neuron, Snapshot, Subnet

# Field of a neuron: the chain's name of the column that holds it for all neurons.
_COLUMNS = {
    "hotkey": "hotkeys",
    "coldkey": "coldkeys",
    "active": "active",
    "validator_permit": "validator_permit",
    "last_update": "last_update",
    "registered_at": "block_at_registration",
    "incentive": "incentives",
    "dividends": "dividends",
    "emission": "emission",
    "alpha_stake": "alpha_stake",
    "tao_stake": "tao_stake",
    "total_stake": "total_stake",
}
_SUBNET = {
    "owner_hotkey": "owner_hotkey",
    "owner_coldkey": "owner_coldkey",
    "registered_at": "network_registered_at",
    "tempo": "tempo",
    "last_step": "last_step",
    "max_uids": "max_uids",
    "max_validators": "max_validators",
    "immunity_period": "immunity_period",
    "activity_cutoff": "activity_cutoff",
    "registration_allowed": "registration_allowed",
    "burn": "burn",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """The answers of one node at one block.

    Attributes:
        graph: the record of the runtime API ``get_metagraph`` (fields as of runtime 461): columns, one entry a UID.
        genesis: the hash of its first block.
        spec_version: the version of its runtime.
        milliseconds: the time of the block since 1970.
        tao_weight: the part of a root stake that counts, of 2^64 - 1.
        stake_threshold: the stake weight that a validator must have to set weights, in rao.
        min_non_immune_uids: how many UIDs past their immunity the chain does not evict.
        immune_owner_uids_limit: how many hotkeys of the subnet's owner it never evicts.
    """

    graph: dict[str, Any]
    genesis: str
    spec_version: int
    milliseconds: int
    tao_weight: int
    stake_threshold: int
    min_non_immune_uids: int
    immune_owner_uids_limit: int

    def snapshot(self, network: str, netuid: int) -> Snapshot:
        """Return the snapshot; nothing that is missing is made up.

        Raises:
            CeliumError: the answer is not of the form that we know, or columns have no entry for each UID.
        """
        try:
            return Snapshot(
                network=network,
                genesis=self.genesis,
                spec_version=self.spec_version,
                block=self.graph["block"],
                block_time=_EPOCH + timedelta(milliseconds=self.milliseconds),
                netuid=netuid,
                tao_weight=self.tao_weight,
                stake_threshold=self.stake_threshold,
                subnet=self._subnet(),
                neurons=self._neurons(),
            )
        except (ValidationError, KeyError, TypeError, ValueError) as error:
            reason = f"{error}" if not isinstance(error, KeyError) else f"it has no {error}"
            raise CeliumError(
                f"the metagraph of {network} (runtime {self.spec_version}) is not understood: {reason.splitlines()[0]}",
                remedy="update celium-ops: a new runtime may answer in another form",
                code="chain-not-understood",
            ) from error

    def _subnet(self) -> Subnet:
        return Subnet(
            name=_text(self.graph["name"]),
            symbol=_text(self.graph["symbol"]),
            min_non_immune_uids=self.min_non_immune_uids,
            immune_owner_uids_limit=self.immune_owner_uids_limit,
            **{field: self.graph[column] for field, column in _SUBNET.items()},
        )

    def _neurons(self) -> tuple[Neuron, ...]:
        columns = [self.graph[column] for column in (*_COLUMNS.values(), "axons")]
        rows = zip(*columns, strict=True)
        return tuple(
            Neuron(uid=uid, axon=_axon(axon), **dict(zip(_COLUMNS, values, strict=True)))
            for uid, (*values, axon) in enumerate(rows)
        )


def _text(characters: str | list[int]) -> str:
    """Return a text that the chain holds as numbers, the bytes of UTF-8; the SDK may have made it a string already."""
    return characters if isinstance(characters, str) else bytes(characters).decode(errors="replace")


def _axon(axon: dict[str, int]) -> str | None:
    """Return where an axon is, as ADDRESS:PORT; None when nothing is served."""
    if not axon["ip"]:
        return None
    address = f"[{IPv6Address(axon['ip'])}]" if axon["ip_type"] == 6 else str(IPv4Address(axon["ip"]))
    return f"{address}:{axon['port']}"
