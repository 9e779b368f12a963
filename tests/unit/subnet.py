"""Small subnets for the tests of this folder."""

from datetime import UTC, datetime

from celium_ops.chain.snapshot import Neuron, Snapshot, Subnet

RAO = 10**9
BLOCK = 1_000_000
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
OWNER = "owner"


def neuron(uid, **changes):
    """Return an active validator with a large stake, past its immunity, but for the changes."""
    values = {
        "uid": uid,
        "hotkey": f"hotkey-{uid}",
        "coldkey": f"coldkey-{uid}",
        "active": True,
        "validator_permit": True,
        "last_update": BLOCK - 100,
        "registered_at": 1_000,
        "incentive": 0,
        "dividends": 0,
        "emission": RAO,
        "alpha_stake": 30_000 * RAO,
        "tao_stake": 0,
        "total_stake": 30_000 * RAO,
    }
    return Neuron(**{**values, **changes})


def subnet(*neurons, network="ws://node.example:9944", block=BLOCK, block_time=NOW, genesis="0x" + "1" * 64, **changes):
    """Return a full subnet whose immunity lasts 1000 blocks, but for the changes."""
    values = {
        "name": "test",
        "symbol": "t",
        "owner_hotkey": "owner-hotkey",
        "owner_coldkey": OWNER,
        "registered_at": 0,
        "tempo": 360,
        "last_step": BLOCK - 10,
        "max_uids": len(neurons),
        "max_validators": 64,
        "immunity_period": 1_000,
        "activity_cutoff": 5_000,
        "min_non_immune_uids": 0,
        "immune_owner_uids_limit": 1,
        "registration_allowed": True,
        "burn": RAO,
    }
    return Snapshot(
        network=network,
        genesis=genesis,
        spec_version=461,
        block=block,
        block_time=block_time,
        netuid=51,
        tao_weight=0,
        stake_threshold=0,
        subnet=Subnet(**{**values, **changes}),
        neurons=neurons,
    )
