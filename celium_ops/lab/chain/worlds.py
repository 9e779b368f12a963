"""Made-up subnets for the simulated chain, the same for the same arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from celium_ops.chain.snapshot import Neuron, Snapshot, Subnet
from celium_ops.lab.chain.metadata import GENESIS, SPEC_VERSION

NETUID = 51
_RAO = 10**9
_BLOCK = 5_000_000
_BLOCK_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_TEMPO = 360
_TAO_WEIGHT = 3_320_413_933_267_719_290
"""0.18 of 2^64 - 1, the main chain's since 2025-02 (the metadata's default is 0.0527)."""
_TAO_WEIGHT_OF = 2**64 - 1
_TOTAL_STAKE = 2_000_000
"""Stake weight of all validators together."""
_PERMILLES = (430, 210, 130, 90, 60, 40, 20, 12, 5, 3)
"""What each permit holder has of it: skewed as on the real subnet; the last has too little to be worth an executor."""
_INACTIVE = 5
"""The place of the permit holder that no longer sets weights."""


def default_world(
    miners: Mapping[str, str | None] | None = None,
    validators: Sequence[str] = (),
    *,
    neurons: int = 64,
) -> Snapshot:
    """Return a subnet with ten permit holders and a skewed stake.

    Args:
        miners: where the axon is, as ``ADDRESS:PORT``, by the hotkeys of those miners that must be there.
        validators: the hotkeys of those validators that must be there; the first has the largest stake, and so on.
        neurons: how many UIDs are taken.
    """
    known = miners or {}
    uids = _uids_of_validators(neurons)
    wanted = list(known)
    made = []
    for uid in range(neurons):
        place = uids.get(uid)
        if place is not None:
            hotkey = validators[place] if place < len(validators) else _address(f"validator/{place}")
            made.append(_validator(uid, place, hotkey))
        else:
            hotkey = wanted.pop(0) if wanted else _address(f"miner/{uid}")
            made.append(_miner(uid, hotkey, known.get(hotkey, f"192.0.2.{uid % 250 + 1}:8091")))
    return Snapshot(
        network="local",
        genesis=GENESIS,
        spec_version=SPEC_VERSION,
        block=_BLOCK,
        block_time=_BLOCK_TIME,
        netuid=NETUID,
        tao_weight=_TAO_WEIGHT,
        stake_threshold=1_000 * _RAO,
        subnet=_subnet(),
        neurons=tuple(made),
    )


def check(snapshot: Snapshot, report: Callable[[str], None]) -> None:
    """Make sure that a snapshot can be put on the chain.

    Raises:
        CeliumError: the metadata cannot be had, or the snapshot holds what the chain's types cannot.
    """
    from celium_ops.lab.chain import metadata
    from celium_ops.lab.chain.codec import Codec
    from celium_ops.lab.chain.runtime import Runtime

    Runtime(Codec(metadata.load(metadata.ensure(report)))).check(snapshot)


def _uids_of_validators(neurons: int) -> dict[int, int]:
    """Return the place in the order of stake by the UID: spread over all UIDs, so that none is first by its stake."""
    count = min(len(_PERMILLES), neurons)
    step = max(1, neurons // count) if count else 1
    # Three and ten have no common divisor: each place is taken once.
    return {number * step: (number * 3 + 7) % count if count == len(_PERMILLES) else number for number in range(count)}


def _validator(uid: int, place: int, hotkey: str) -> Neuron:
    weight = _TOTAL_STAKE * _RAO * _PERMILLES[place] // 1000
    # A third of the weight is root stake, of which the chain counts the part that is its TAO weight.
    tao = weight // 3 * _TAO_WEIGHT_OF // _TAO_WEIGHT
    alpha = weight - tao * _TAO_WEIGHT // _TAO_WEIGHT_OF
    active = place != _INACTIVE
    return Neuron(
        uid=uid,
        hotkey=hotkey,
        coldkey=_address(f"validator/{place}/coldkey"),
        active=active,
        validator_permit=True,
        last_update=_BLOCK - (40 + 7 * place if active else 12_000),
        registered_at=_BLOCK - 400_000 + 1_000 * uid,
        incentive=0,
        dividends=65535 * _PERMILLES[place] // 1000 if active else 0,
        emission=_RAO * _PERMILLES[place] // 10 if active else 0,
        alpha_stake=alpha,
        tao_stake=tao,
        total_stake=weight,
    )


def _miner(uid: int, hotkey: str, axon: str | None) -> Neuron:
    registered_at = _BLOCK - 60_000 + 900 * uid
    return Neuron(
        uid=uid,
        hotkey=hotkey,
        coldkey=_address(f"miner/{uid // 3}/coldkey"),
        active=False,
        validator_permit=False,
        last_update=registered_at,
        registered_at=registered_at,
        incentive=uid * 37 % 601,
        dividends=0,
        emission=uid * 37 % 601 * 1_000_003,
        alpha_stake=uid * 311 % 20 * _RAO,
        tao_stake=0,
        total_stake=uid * 311 % 20 * _RAO,
        axon=axon,
    )


def _subnet() -> Subnet:
    owner = _address("owner")
    return Subnet(
        name="celium (simulated)",
        symbol="ة",
        owner_hotkey=owner,
        owner_coldkey=_address("owner/coldkey"),
        registered_at=_BLOCK - 2_000_000,
        tempo=_TEMPO,
        last_step=_BLOCK - 100,
        max_uids=256,
        max_validators=64,
        immunity_period=7_200,
        activity_cutoff=5_000,
        min_non_immune_uids=10,
        immune_owner_uids_limit=1,
        registration_allowed=True,
        burn=350_000_000,
    )


@functools.cache
def _address(name: str) -> str:
    """Return the address of a key that anybody can derive: it must never hold anything."""
    import bittensor_core

    address: str = bittensor_core.Keypair.create_from_uri(f"//celium-ops lab/{name}").ss58_address
    return address
