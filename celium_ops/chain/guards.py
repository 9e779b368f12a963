"""What must hold before anything is decided by a reading of the chain. Pure: bad data changes nothing.

Every guard has a code, and the operator may override it by that code, once he has looked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from celium_ops.base.errors import GuardError, UsageError
from celium_ops.chain.networks import BLOCK_SECONDS, NETWORKS
from celium_ops.chain.snapshot import Snapshot

STALE = "chain-stale"
WRONG_GENESIS = "chain-wrong-genesis"
EMPTY = "chain-empty"
DROPPED = "chain-uids-dropped"
UNSETTLED = "chain-stake-unsettled"
NO_SUBNET = "chain-no-subnet"

OVERRIDABLE = (STALE, WRONG_GENESIS, EMPTY, DROPPED, UNSETTLED)
"""The codes that may be overridden; there is no going on without a subnet."""
EARLIER = (1, 7)
"""How many blocks before the newest the stake is looked at again when it has shifted; every node still has them."""


@dataclass(frozen=True)
class Limits:
    """How old the newest block may be, in blocks of 12 s, and what part may be different from the last time.

    ``dropped`` is of the UIDs, ``shifted`` of the permit holders' stake: more than that wants a second look.
    """

    age_blocks: int = 100
    dropped: float = 0.2
    shifted: float = 0.01


def believe(
    read: Callable[[int | None], Snapshot],
    previous: Snapshot | None,
    now: datetime,
    *,
    limits: Limits | None = None,
    override: Collection[str] = (),
) -> Snapshot:
    """Read the newest block, and make sure that it may be believed.

    Stake that has shifted since the last good reading is looked at again a few blocks earlier: what comes and goes with
    every block, or has only just come, is not acted on.

    Args:
        read: reads a block; None is the newest.
        previous: the last good reading, of whatever network and subnet; None when there is none.
        now: the present time, with its zone.
        limits: what is still good.
        override: the codes of the guards that do not count this time.

    Raises:
        GuardError: it may not be believed.
        Exception: whatever ``read`` raises.
    """
    found, limits = read(None), limits or Limits()
    check(found, previous, now, limits=limits, override=override)
    comparable = _comparable(previous, found)
    if UNSETTLED in override or (comparable and _shift(found, comparable) <= limits.shifted):
        return found
    for block in (found.block - blocks for blocks in EARLIER if blocks <= found.block):
        moved = _shift(found, read(block))
        if moved > limits.shifted:
            reason = f"{float(moved):.0%} of the validators' stake is elsewhere at block {found.block}"
            ways = "try again in a few minutes, or compare with another node"
            raise _stopped(UNSETTLED, f"{reason} than it was at block {block}", ways)
    return found


def check(
    snapshot: Snapshot,
    previous: Snapshot | None,
    now: datetime,
    *,
    limits: Limits | None = None,
    override: Collection[str] = (),
) -> None:
    """Make sure that a reading may be believed.

    Args:
        snapshot: the reading.
        previous: the last one that was good, of whatever network and subnet; None when there is none.
        now: the present time, with its zone.
        limits: what is still good.
        override: the codes of the guards that do not count this time.

    Raises:
        GuardError: it may not; the first reason that is not overridden, with the guard's code.
        UsageError: something is overridden that cannot be.
    """
    check_override(override)
    for code, message, remedy in _faults(snapshot, _comparable(previous, snapshot), now, limits or Limits()):
        if code not in override:
            raise _stopped(code, message, remedy)


def check_override(override: Collection[str]) -> None:
    """Make sure that only guards that are there are overridden.

    Raises:
        UsageError: one is not there.
    """
    for code in override:
        if code not in OVERRIDABLE:
            raise UsageError(
                f"no guard {code} can be overridden", remedy=f"one of {', '.join(OVERRIDABLE)}", code="no-such-guard"
            )


def age_blocks(snapshot: Snapshot, now: datetime) -> int:
    """Return how old a reading is, in blocks of 12 s; negative when its block is still to come."""
    return int((now - snapshot.block_time).total_seconds() / BLOCK_SECONDS)


def no_subnet(network: str, netuid: int) -> GuardError:
    """Return what stops a command when the chain has no such subnet."""
    return GuardError(
        f"{network} has no subnet {netuid}",
        remedy="check celium_network and celium_netuid of the inventory, or --network and --netuid",
        code=NO_SUBNET,
    )


def _stopped(code: str, message: str, remedy: str) -> GuardError:
    return GuardError(message, remedy=f"{remedy}; to go on all the same: --override {code}", code=code)


def _comparable(previous: Snapshot | None, found: Snapshot) -> Snapshot | None:
    same = previous and (previous.network, previous.netuid) == (found.network, found.netuid)
    return previous if same else None


def _shift(one: Snapshot, other: Snapshot) -> Fraction:
    """Return what part of the permit holders' stake is with others of them; 1 when only one of the two has any."""
    mine, theirs = _shares(one), _shares(other)
    if bool(mine) != bool(theirs):
        return Fraction(1)
    nothing = Fraction(0)
    return sum((max(share - theirs.get(hotkey, nothing), nothing) for hotkey, share in mine.items()), nothing)


def _shares(snapshot: Snapshot) -> dict[str, Fraction]:
    holders = {neuron.hotkey: neuron.total_stake for neuron in snapshot.neurons if neuron.validator_permit}
    whole = sum(holders.values())
    return {hotkey: Fraction(stake, whole) for hotkey, stake in holders.items()} if whole else {}


def _faults(
    snapshot: Snapshot, previous: Snapshot | None, now: datetime, limits: Limits
) -> Iterator[tuple[str, str, str]]:
    """Yield (code, message, remedy) of what is wrong."""
    known = NETWORKS.get(snapshot.network)
    wanted = (known.genesis if known else None) or (previous.genesis if previous else None)
    if wanted not in (None, snapshot.genesis):
        reason = f"the first block of {snapshot.network} is {snapshot.genesis}, it should be {wanted}"
        yield WRONG_GENESIS, reason, "ask a node of the right chain"
    age = age_blocks(snapshot, now)
    if abs(age) > limits.age_blocks:
        reason = f"block {snapshot.block} of {snapshot.network} was made at {snapshot.block_time:%Y-%m-%d %H:%M:%S} UTC"
        which = f"{age} blocks ago" if age > 0 else "which is still to come"
        remedy = "ask a node that keeps up with the chain" if age > 0 else "set this machine's clock"
        yield STALE, f"{reason}, {which}; at most {limits.age_blocks} are allowed", remedy
    if not snapshot.neurons:
        yield EMPTY, f"subnet {snapshot.netuid} of {snapshot.network} has no neurons", "ask another node"
    if previous and len(previous.neurons) - len(snapshot.neurons) > limits.dropped * len(previous.neurons):
        reason = f"{len(snapshot.neurons)} UIDs are left of {len(previous.neurons)} at block {previous.block}"
        yield DROPPED, f"{reason}; at most {limits.dropped:.0%} may go", "ask another node, and compare"
