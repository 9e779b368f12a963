"""Look at the subnet: who holds the stake, how a miner stands, and all of it in a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from celium_ops.base.errors import CeliumError, UsageError
from celium_ops.chain import guards, reader, snapshot
from celium_ops.chain.eligible import Of, Rules, judge, rules_of, share, whole
from celium_ops.chain.risk import free_slots, standings
from celium_ops.chain.snapshot import Neuron, Snapshot
from celium_ops.fleet.inventory import load_fleet
from celium_ops.fleet.model import Fleet, Host


@dataclass(frozen=True)
class Source:
    """Which subnet is looked at (null: the usual one), where, and the fleet that it is for, if there is one."""

    network: str
    netuid: int | None
    fleet: Fleet | None


def find_source(inventory: Path | None, network: str | None, netuid: int | None) -> Source:
    """Return what to read: what the operator says, else what the inventory says.

    Args:
        inventory: the inventory; None when there is none.
        network: the network that the operator names; None for that of the inventory.
        netuid: the subnet that the operator names; None for that of the inventory.

    Raises:
        UsageError: the inventory is wrong, its hosts do not agree, or there is neither an inventory nor a network.
    """
    fleet = load_fleet(inventory) if inventory else None
    if network is None:
        if fleet is None:
            raise UsageError(
                "there is neither an inventory nor a network", remedy="name one: -i FILE, or --network finney"
            )
        network = str(_agreed(fleet, "celium_network", "--network"))
    if netuid is None and fleet and not reader.is_file(network):
        netuid = int(_agreed(fleet, "celium_netuid", "--netuid"))
    return Source(network, netuid, fleet)


def _agreed(fleet: Fleet, key: str, option: str) -> Any:
    """Return the value that all hosts have."""
    values = sorted({str(host.values[key]) for host in fleet.hosts.values()})
    if len(values) != 1:
        raise UsageError(
            f"the hosts of {fleet.inventory} do not agree on {key}: {', '.join(values) or 'there are none'}",
            remedy=f"name one with {option}",
            file=str(fleet.inventory),
            key=key,
        )
    return values[0]


def read(source: Source, override: Collection[str] = ()) -> Snapshot:
    """Return the subnet, checked; a file may be of any age.

    Raises:
        UsageError: there is no such network, file or guard.
        GuardError: what was read cannot be believed.
        CeliumError: it cannot be read.
    """
    guards.check_override(override)
    found = reader.read(source.network, source.netuid)
    old = {guards.STALE} if reader.is_file(source.network) else set()
    guards.check(found, None, datetime.now(UTC), override={*override, *old})
    return found


@dataclass(frozen=True)
class ValidatorStake:
    """One neuron as a validator; amounts in rao, ``stake_share`` is null if its stake is not part of the whole."""

    hotkey: str
    uid: int
    total_stake: int
    alpha_stake: int
    tao_stake: int
    stake_share: float | None
    validator_permit: bool
    active: bool
    last_update: int
    blocks_since_update: int
    eligible: bool
    reasons: tuple[str, ...]


def rules_for(fleet: Fleet | None, miner: str | None) -> Rules:
    """Return the rules that a miner of the fleet gives its validators by.

    Args:
        fleet: the fleet; without one, or without miners in it, upstream's defaults count.
        miner: whose rules; None when all miners have the same.

    Raises:
        UsageError: there is no such miner, or none is named and they differ.
    """
    if miner:
        if fleet is None:
            raise UsageError(f"there is no inventory to find {miner} in", remedy="name one with -i")
        return rules_of(fleet.host(miner).values)
    found = {rules_of(host.values) for host in (fleet.of_role("miner") if fleet else [])}
    if len(found) > 1:
        raise UsageError("the miners of the inventory have different rules", remedy="name one with --miner HOST")
    return found.pop() if found else Rules()


def validators(found: Snapshot, rules: Rules, of: Of, everybody: bool) -> list[ValidatorStake]:
    """Return the permit holders, or all neurons, those with the largest stake weight first.

    Args:
        found: the subnet.
        rules: what makes a validator eligible.
        of: whose stake is the whole.
        everybody: those without a permit too.
    """
    of_all = whole(found, of)
    return [
        _stake(found, one.neuron, of_all, of, one.reasons)
        for one in judge(found, rules)
        if everybody or one.neuron.validator_permit
    ]


def _stake(found: Snapshot, neuron: Neuron, of_all: int, of: Of, reasons: tuple[str, ...]) -> ValidatorStake:
    part = share(neuron, of_all, of)
    return ValidatorStake(
        hotkey=neuron.hotkey,
        uid=neuron.uid,
        total_stake=neuron.total_stake,
        alpha_stake=neuron.alpha_stake,
        tao_stake=neuron.tao_stake,
        stake_share=None if part is None else float(part),
        validator_permit=neuron.validator_permit,
        active=neuron.active,
        last_update=neuron.last_update,
        blocks_since_update=found.block - neuron.last_update,
        eligible=not reasons,
        reasons=reasons,
    )


@dataclass(frozen=True)
class MinerStanding:
    """How a hotkey stands on the subnet; all but the first four are null when it is not registered.

    Amounts are in rao, ``incentive`` is 0 to 1, ``emission`` what a tempo brings. ``axon_expected`` is what the
    inventory announces; ``axon_differs`` is null when there is nothing to compare. The rest as ``chain.risk`` has it.
    """

    host: str | None
    hotkey: str
    registered: bool
    axon_expected: str | None
    uid: int | None = None
    coldkey: str | None = None
    active: bool | None = None
    validator_permit: bool | None = None
    total_stake: int | None = None
    alpha_stake: int | None = None
    incentive: float | None = None
    emission: int | None = None
    last_update: int | None = None
    blocks_since_update: int | None = None
    axon: str | None = None
    axon_differs: bool | None = None
    registered_at: int | None = None
    immune_blocks: int | None = None
    eviction_rank: int | None = None
    protection: str | None = None
    registrations_until_eviction: int | None = None


def miners(found: Snapshot, fleet: Fleet | None, hotkey: str | None) -> list[MinerStanding]:
    """Return how a hotkey stands, or those of all miners of the fleet.

    Raises:
        UsageError: neither a hotkey nor a fleet with miners is there to ask for.
    """
    hosts = {str(host.values["miner_hotkey_ss58"]): host for host in (fleet.of_role("miner") if fleet else [])}
    wanted = [hotkey] if hotkey else list(hosts)
    if not wanted:
        raise UsageError("there is no miner to look for", remedy="name a hotkey, or an inventory with miners")
    neurons = {neuron.hotkey: neuron for neuron in found.neurons}
    return [_standing(found, hosts.get(key), key, neurons.get(key)) for key in wanted]


def _standing(found: Snapshot, host: Host | None, hotkey: str, neuron: Neuron | None) -> MinerStanding:
    name, expected = (host.name, _announced(host)) if host else (None, None)
    if neuron is None:
        return MinerStanding(name, hotkey, registered=False, axon_expected=expected)
    standing = standings(found)[neuron.uid]
    return MinerStanding(
        host=name,
        hotkey=hotkey,
        registered=True,
        axon_expected=expected,
        uid=neuron.uid,
        coldkey=neuron.coldkey,
        active=neuron.active,
        validator_permit=neuron.validator_permit,
        total_stake=neuron.total_stake,
        alpha_stake=neuron.alpha_stake,
        incentive=neuron.incentive / 65535,
        emission=neuron.emission,
        last_update=neuron.last_update,
        blocks_since_update=found.block - neuron.last_update,
        axon=neuron.axon,
        axon_differs=neuron.axon != expected if expected else None,
        registered_at=neuron.registered_at,
        immune_blocks=standing.immune_blocks,
        eviction_rank=standing.rank,
        protection=standing.protection,
        registrations_until_eviction=standing.registrations,
    )


def _announced(host: Host) -> str | None:
    """Return the axon that a miner announces, as the chain shows it; None for a name, which it shows as an address."""
    try:
        address = ip_address(str(host.values["miner_external_ip"]))
    except ValueError:
        return None
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"{shown}:{host.values['miner_external_port']}"


def about(found: Snapshot) -> dict[str, Any]:
    """Return which subnet this is, and when; ``age_blocks`` are blocks of 12 s."""
    now = datetime.now(UTC)
    return {
        "network": found.network,
        "genesis": found.genesis,
        "netuid": found.netuid,
        "name": found.subnet.name,
        "block": found.block,
        "block_time": found.block_time.isoformat(),
        "age_blocks": guards.age_blocks(found, now),
    }


def slots(found: Snapshot) -> dict[str, Any]:
    """Return what a registration meets: free slots, whether it is allowed, and what it costs, in rao."""
    return {
        "uids": len(found.neurons),
        "max_uids": found.subnet.max_uids,
        "free_slots": free_slots(found),
        "registration_allowed": found.subnet.registration_allowed,
        "burn": found.subnet.burn,
    }


def write_snapshot(found: Snapshot, file: Path) -> None:
    """Write a snapshot to a file, in one go.

    Raises:
        CeliumError: it cannot be written.
    """
    try:
        snapshot.save(found, file)
    except OSError as error:
        raise CeliumError(f"cannot write {file}: {error.strerror}", file=str(file), code="cannot-write") from error


def to_json(row: ValidatorStake | MinerStanding) -> dict[str, Any]:
    """Return a row as ``chain validators --json`` and ``chain miner --json`` promise it."""
    return asdict(row)
