"""Whom the chain evicts next. Pure.

The rule is the chain's (``get_neuron_to_prune`` and ``get_immune_owner_tuples`` of opentensor/subtensor, 2026): only a
registration on a full subnet evicts. Some hotkeys of the subnet's owner are never evicted. Of the others, UIDs past
their immunity go first, by lowest emission, then oldest registration, then lowest UID; but ``min_non_immune_uids`` of
them stay, and when no more are left than those, the same order is applied to the immune ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from celium_ops.chain.snapshot import Neuron, Snapshot


@dataclass(frozen=True)
class Standing:
    """How near a UID is to its eviction, if no emission changed from now on.

    Attributes:
        rank: 1 goes first; None for one that the chain does not evict as it stands.
        immune_blocks: blocks of immunity left; 0 when it is over. Immunity only puts a UID behind the others.
        protection: why there is no rank: a hotkey of the subnet's owner, or one of the last UIDs that are not immune.
        registrations: how many more hotkeys have to be registered until this one goes, free slots included.
    """

    uid: int
    rank: int | None
    immune_blocks: int
    protection: Literal["owner", "floor"] | None
    registrations: int | None


def free_slots(snapshot: Snapshot) -> int:
    """Return how many hotkeys can be registered before one is evicted."""
    return max(0, snapshot.subnet.max_uids - len(snapshot.neurons))


def standings(snapshot: Snapshot) -> dict[int, Standing]:
    """Return how near each UID is to its eviction, by UID."""
    owners = _owner_immune(snapshot)
    rank = {uid: place for place, uid in enumerate(eviction_order(snapshot), 1)}
    free = free_slots(snapshot)
    return {
        neuron.uid: Standing(
            uid=neuron.uid,
            rank=rank.get(neuron.uid),
            immune_blocks=immune_blocks(snapshot, neuron),
            protection=None if neuron.uid in rank else "owner" if neuron.uid in owners else "floor",
            registrations=free + rank[neuron.uid] if neuron.uid in rank else None,
        )
        for neuron in snapshot.neurons
    }


def eviction_order(snapshot: Snapshot) -> tuple[int, ...]:
    """Return the UIDs that can be evicted, the one that goes first at the beginning.

    It is the order among those that are there now: the newcomers that evict them are left out of it.
    """
    owners = _owner_immune(snapshot)
    order = sorted(snapshot.neurons, key=lambda neuron: (neuron.emission, neuron.registered_at, neuron.uid))
    mortal = [neuron for neuron in order if neuron.uid not in owners]
    exposed = [neuron.uid for neuron in mortal if not immune_blocks(snapshot, neuron)]
    immune = [neuron.uid for neuron in mortal if immune_blocks(snapshot, neuron)]
    return (*exposed[: max(0, len(exposed) - snapshot.subnet.min_non_immune_uids)], *immune)


def immune_blocks(snapshot: Snapshot, neuron: Neuron) -> int:
    """Return the blocks of immunity that a UID has left."""
    return max(0, neuron.registered_at + snapshot.subnet.immunity_period - snapshot.block)


def _owner_immune(snapshot: Snapshot) -> set[int]:
    """Return the UIDs of the subnet's owner that are never evicted: its own hotkey, then those registered longest."""
    subnet = snapshot.subnet
    limit = subnet.immune_owner_uids_limit
    owned = sorted((n.registered_at, n.uid) for n in snapshot.neurons if n.coldkey == subnet.owner_coldkey)
    immune = [uid for _, uid in owned[:limit]]
    own = [neuron.uid for neuron in snapshot.neurons if neuron.hotkey == subnet.owner_hotkey]
    return set(([*own, *immune] if not set(own) & set(immune) else immune)[:limit])
