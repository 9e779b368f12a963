"""What the chain's runtime would answer about a snapshot: its storage and its runtime APIs, on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from celium_ops.base.errors import UsageError
from celium_ops.chain.snapshot import Neuron, Snapshot
from celium_ops.lab.chain.codec import Codec

_ROOT_SYMBOL = "τ"
_PALLET = "SubtensorModule"
# The subnet's pool is no part of a snapshot: a price of about 0.05 TAO for an alpha, in rao.
_POOL = {"tao_in": 48_000 * 10**9, "alpha_in": 900_000 * 10**9, "moving_price": {"bits": int(0.053 * 2**32)}}


class Runtime:
    """The answers of the one runtime that the simulated chain has."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._methods: dict[str, Callable[[Snapshot], Any]] = {
            "SubnetInfoRuntimeApi_get_metagraph": self._metagraph,
            "SubnetInfoRuntimeApi_get_subnet_hyperparams": self._hyperparameters,
            "SubnetInfoRuntimeApi_get_subnet_hyperparams_v3": _named_hyperparameters,
            "SubnetInfoRuntimeApi_get_next_epoch_start_block": _next_epoch,
            "NeuronInfoRuntimeApi_get_neurons_lite": self._neurons,
        }

    def check(self, snapshot: Snapshot) -> None:
        """Make sure that a snapshot can be put on the chain.

        Raises:
            UsageError: it holds what the chain's types cannot.
        """
        if [neuron.uid for neuron in snapshot.neurons] != list(range(len(snapshot.neurons))):
            raise UsageError("the UIDs of a chain are 0, 1, 2 and so on; those of the snapshot have gaps or no order")
        try:
            self.call("SubnetInfoRuntimeApi_get_metagraph", snapshot.netuid.to_bytes(2, "little"), snapshot)
            self.storage(snapshot)
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"the snapshot holds what the chain's types cannot: {error}") from error

    def call(self, name: str, data: bytes, snapshot: Snapshot | None) -> bytes | None:
        """Return the answer of a runtime API; None when this chain does not know it.

        Args:
            name: the API and its method, joined by an underscore.
            data: the encoded arguments: the netuid, in all that we know.
            snapshot: the subnet at the block that is asked about; None when there is none.
        """
        if name == "Metadata_metadata_at_version":
            # Option<Vec<u8>>; only version 15 is there.
            content = self.codec.metadata
            known = int.from_bytes(data[:4], "little") == 15
            return b"\x01" + (len(content) << 2 | 2).to_bytes(4, "little") + content if known else b"\0"
        method = self._methods.get(name)
        if method is None:
            return None
        there = snapshot is not None and int.from_bytes(data[:2], "little") == snapshot.netuid
        value = method(snapshot) if there and snapshot else [] if method == self._neurons else None
        return self.codec.encode(self.codec.answer_type(*name.split("_", 1)), value)

    def storage(self, snapshot: Snapshot, exists: bool = True) -> dict[str, str]:
        """Return the storage at the snapshot's block, values by keys, as hex; only what clients are known to ask for.

        Args:
            snapshot: the subnet, and what it says of the chain as a whole.
            exists: whether the subnet is there.
        """
        stored = {}
        for pallet, item, parameters, value in _items(snapshot, exists):
            stored[self.codec.storage_key(pallet, item, *parameters)] = self.codec.storage_value(pallet, item, value)
        return stored

    def _metagraph(self, snapshot: Snapshot) -> dict[str, Any]:
        subnet, neurons = snapshot.subnet, snapshot.neurons
        graph: dict[str, Any] = self._blank("SubnetInfoRuntimeApi", "get_metagraph")
        since = max(0, snapshot.block - subnet.last_step)
        zeros = [0] * len(neurons)
        return (
            graph
            | _POOL
            | {
                "netuid": snapshot.netuid,
                "name": list(subnet.name.encode()),
                "symbol": list(subnet.symbol.encode()),
                "network_registered_at": subnet.registered_at,
                "owner_hotkey": subnet.owner_hotkey,
                "owner_coldkey": subnet.owner_coldkey,
                "block": snapshot.block,
                "tempo": subnet.tempo,
                "last_step": subnet.last_step,
                "blocks_since_last_step": since,
                "activity_cutoff": subnet.activity_cutoff,
                "max_validators": subnet.max_validators,
                "num_uids": len(neurons),
                "max_uids": subnet.max_uids,
                "burn": subnet.burn,
                "registration_allowed": subnet.registration_allowed,
                "immunity_period": subnet.immunity_period,
                "hotkeys": [neuron.hotkey for neuron in neurons],
                "coldkeys": [neuron.coldkey for neuron in neurons],
                "identities": [None] * len(neurons),
                "axons": [_axon(neuron) for neuron in neurons],
                "active": [neuron.active for neuron in neurons],
                "validator_permit": [neuron.validator_permit for neuron in neurons],
                "last_update": [neuron.last_update for neuron in neurons],
                "emission": [neuron.emission for neuron in neurons],
                "dividends": [neuron.dividends for neuron in neurons],
                "incentives": [neuron.incentive for neuron in neurons],
                "consensus": zeros,
                "block_at_registration": [neuron.registered_at for neuron in neurons],
                "alpha_stake": [neuron.alpha_stake for neuron in neurons],
                "tao_stake": [neuron.tao_stake for neuron in neurons],
                "total_stake": [neuron.total_stake for neuron in neurons],
                "collateral_locked": zeros,
                "collateral_min": zeros,
                "collateral_earned": zeros,
                # Ranks, trust and pruning scores stay empty: today's chain no longer computes them.
            }
        )

    def _hyperparameters(self, snapshot: Snapshot) -> dict[str, Any]:
        subnet = snapshot.subnet
        found: dict[str, Any] = self._blank("SubnetInfoRuntimeApi", "get_subnet_hyperparams")
        return found | {
            "tempo": subnet.tempo,
            "immunity_period": subnet.immunity_period,
            "max_validators": subnet.max_validators,
            "activity_cutoff": subnet.activity_cutoff,
            "registration_allowed": subnet.registration_allowed,
        }

    def _neurons(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Return the neurons as the chain lists them singly: their stake there is the bare alpha, not the weight."""
        return [
            {
                "hotkey": neuron.hotkey,
                "coldkey": neuron.coldkey,
                "uid": neuron.uid,
                "netuid": snapshot.netuid,
                "active": neuron.active,
                "axon_info": _axon(neuron),
                "prometheus_info": {"block": 0, "version": 0, "ip": 0, "port": 0, "ip_type": 0},
                "stake": [(neuron.coldkey, neuron.alpha_stake)],
                "rank": 0,
                "emission": neuron.emission,
                "incentive": neuron.incentive,
                "consensus": 0,
                "trust": 0,
                "validator_trust": 0,
                "dividends": neuron.dividends,
                "last_update": neuron.last_update,
                "validator_permit": neuron.validator_permit,
                "pruning_score": 65535,
            }
            for neuron in snapshot.neurons
        ]

    def _blank(self, api: str, method: str) -> Any:
        return self.codec.blank(self.codec.answer_type(api, method))


def _items(snapshot: Snapshot, exists: bool) -> Iterator[tuple[str, str, tuple[Any, ...], Any]]:
    """Yield what is stored: pallet, item, parameters, value."""
    yield "System", "Number", (), snapshot.block
    yield "Timestamp", "Now", (), round(snapshot.block_time.timestamp() * 1000)
    for item, parameters, value in _chain_items(snapshot):
        yield _PALLET, item, parameters, value
    if exists:
        for item, value in _subnet_items(snapshot):
            yield _PALLET, item, (snapshot.netuid,), value
        for neuron in snapshot.neurons:
            for item, parameters, value in _neuron_items(snapshot.netuid, neuron):
                yield _PALLET, item, parameters, value


def _chain_items(snapshot: Snapshot) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    yield "TaoWeight", (), snapshot.tao_weight
    yield "StakeThreshold", (), snapshot.stake_threshold
    if snapshot.netuid:
        yield "NetworksAdded", (0,), True
        yield "TokenSymbol", (0,), _ROOT_SYMBOL.encode()


def _subnet_items(snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    subnet, neurons = snapshot.subnet, snapshot.neurons
    yield "NetworksAdded", True
    yield "TokenSymbol", subnet.symbol.encode()
    yield "SubnetOwner", subnet.owner_coldkey
    yield "SubnetOwnerHotkey", subnet.owner_hotkey
    yield "NetworkRegisteredAt", subnet.registered_at
    yield "NetworkRegistrationAllowed", subnet.registration_allowed
    yield "Tempo", subnet.tempo
    yield "LastEpochBlock", subnet.last_step
    yield "LastMechansimStepBlock", subnet.last_step  # the chain's spelling
    yield "BlocksSinceLastStep", max(0, snapshot.block - subnet.last_step)
    yield "SubnetworkN", len(neurons)
    yield "MaxAllowedUids", subnet.max_uids
    yield "MaxAllowedValidators", subnet.max_validators
    yield "MinNonImmuneUids", subnet.min_non_immune_uids
    yield "ImmuneOwnerUidsLimit", subnet.immune_owner_uids_limit
    yield "ImmunityPeriod", subnet.immunity_period
    yield "Burn", subnet.burn
    yield "Active", [neuron.active for neuron in neurons]
    yield "ValidatorPermit", [neuron.validator_permit for neuron in neurons]
    yield "LastUpdate", [neuron.last_update for neuron in neurons]
    yield "Emission", [neuron.emission for neuron in neurons]
    yield "Incentive", [neuron.incentive for neuron in neurons]
    yield "Dividends", [neuron.dividends for neuron in neurons]


def _neuron_items(netuid: int, neuron: Neuron) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    yield "Uids", (netuid, neuron.hotkey), neuron.uid
    yield "Keys", (netuid, neuron.uid), neuron.hotkey
    yield "IsNetworkMember", (neuron.hotkey, netuid), True
    yield "Owner", (neuron.hotkey,), neuron.coldkey
    yield "BlockAtRegistration", (netuid, neuron.uid), neuron.registered_at
    if neuron.axon:
        yield "Axons", (netuid, neuron.hotkey), _axon(neuron)


def _named_hyperparameters(snapshot: Snapshot) -> list[dict[str, Any]]:
    subnet = snapshot.subnet
    return [
        {"name": b"tempo", "value": {"U16": subnet.tempo}},
        {"name": b"immunity_period", "value": {"U16": subnet.immunity_period}},
        {"name": b"max_validators", "value": {"U16": subnet.max_validators}},
        {"name": b"activity_cutoff", "value": {"U16": subnet.activity_cutoff}},
        {"name": b"registration_allowed", "value": {"Bool": subnet.registration_allowed}},
    ]


def _next_epoch(snapshot: Snapshot) -> int | None:
    return snapshot.subnet.last_step + snapshot.subnet.tempo if snapshot.subnet.tempo else None


def _axon(neuron: Neuron) -> dict[str, int]:
    blank = {"block": 0, "version": 0, "protocol": 0, "placeholder1": 0, "placeholder2": 0}
    if not neuron.axon:
        return blank | {"ip": 0, "port": 0, "ip_type": 0}
    host, _, port = neuron.axon.rpartition(":")
    address = ip_address(host.strip("[]"))
    return blank | {"ip": int(address), "port": int(port), "ip_type": address.version, "protocol": 4}
