"""The ways in which the simulated chain can be told to misbehave."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celium_ops.chain.snapshot import Neuron, Snapshot


class Fault(StrEnum):
    """One way; its value is its name on the command line."""

    DEAD = "dead"
    SLOW = "slow"
    RATE_LIMIT = "429"
    POLICY = "policy"
    PRUNED = "pruned"
    DROPPING = "dropping"
    CLOSING = "closing"
    WRONG_GENESIS = "wrong-genesis"
    NO_SUBNET = "no-subnet"
    EMPTY = "empty"
    HALF = "half"
    FLAPPING = "flapping"
    STILL = "still"


SLOW_SECONDS = 3.0
RETRY_AFTER_SECONDS = 30
STILL_SECONDS = 3600
POLICY_CODE = -32004
"""A refusal of the load balancers in front of public nodes (the SDK 11.3.0 knows it)."""
DISCARDED_CODE = 4003

MEANINGS = {
    Fault.DEAD: "nothing listens: connections are refused",
    Fault.SLOW: f"every answer takes {SLOW_SECONDS:g} s",
    Fault.RATE_LIMIT: f"connections are refused with HTTP 429, retry after {RETRY_AFTER_SECONDS} s",
    Fault.POLICY: f"every request is refused with the error {POLICY_CODE}",
    Fault.PRUNED: "the state of every block that is asked for by its hash has been discarded",
    Fault.DROPPING: "the connection breaks whenever something is asked",
    Fault.CLOSING: "the connection is closed in order instead of an answer: the SDK 11.3.0 then waits forever",
    Fault.WRONG_GENESIS: "another chain: all block hashes differ, the first block's too",
    Fault.NO_SUBNET: "the subnet does not exist",
    Fault.EMPTY: "the subnet has no neurons",
    Fault.HALF: "the second half of the UIDs is gone",
    Fault.FLAPPING: "the permit holders swap their stakes with every block",
    Fault.STILL: "no new blocks, and the newest is an hour old",
}
"""What each fault does, in one line."""

STATUS_PATH = "/status"
"""Asked by plain HTTP, this path tells how the chain is, whatever its fault; a dead one does not answer."""

CUTS = frozenset({Fault.DEAD, Fault.RATE_LIMIT})
"""The faults that end the connections there are: who is connected has to come again to meet them."""


def distorted(snapshot: Snapshot, fault: Fault | None, block: int) -> Snapshot:
    """Return what a node with this fault says of the subnet at this block."""
    neurons = snapshot.neurons
    if fault is Fault.EMPTY:
        neurons = ()
    elif fault is Fault.HALF:
        neurons = neurons[: (len(neurons) + 1) // 2]
    elif fault is Fault.FLAPPING:
        neurons = _swapped(neurons, block)
    return snapshot.model_copy(update={"neurons": neurons})


def _swapped(neurons: tuple[Neuron, ...], block: int) -> tuple[Neuron, ...]:
    """Give every permit holder the stakes of another one, never its own; which one moves on with every block."""
    holders = [neuron for neuron in neurons if neuron.validator_permit]
    if len(holders) < 2:
        return neurons
    step = 1 + block % (len(holders) - 1)
    givers = {holder.uid: holders[(place + step) % len(holders)] for place, holder in enumerate(holders)}
    stakes = ("alpha_stake", "tao_stake", "total_stake")
    return tuple(
        neuron.model_copy(update={name: getattr(givers.get(neuron.uid, neuron), name) for name in stakes})
        for neuron in neurons
    )
