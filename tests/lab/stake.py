"""What the stake asks of a registry, worked out by trying every assignment there is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from fleet import Fleet

from celium_ops.chain.snapshot import Snapshot

_STAKE, _ALPHA = 20_000 * 10**9, 10 * 10**9


def rows(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Return the validator and the uuid of each executor, as the database has them."""
    lines = fleet.sql("select address, port, validator, uuid from executor").splitlines()
    found = (line.split("|") for line in lines)
    return {f"{address}:{port}": (validator, uuid) for address, port, validator, uuid in found}


def best(world: Snapshot, today: Mapping[str, str]) -> tuple[Any, ...]:
    """Return what ``measured`` says of the best assignment of all."""
    targets = itertools.product(eligible(world), repeat=len(today))
    return min(measured(dict(zip(today, target, strict=True)), today, world) for target in targets)


def measured(target: Mapping[str, str], today: Mapping[str, str], world: Snapshot) -> tuple[Any, ...]:
    """Return what is to be least: the missing coverage up to one half, the sum of squares, the moves."""
    good = eligible(world)
    whole = sum(neuron.total_stake for neuron in world.neurons if neuron.validator_permit)
    covered = Fraction(sum(good.get(hotkey, 0) for hotkey in set(target.values())), whole)
    everybody = {*good, *target.values()}
    counts = {hotkey: list(target.values()).count(hotkey) for hotkey in everybody}
    due = {hotkey: Fraction(len(target) * good.get(hotkey, 0), sum(good.values())) for hotkey in everybody}
    squares = sum((counts[hotkey] - due[hotkey]) ** 2 for hotkey in everybody)
    return -min(covered, Fraction(1, 2)), squares, sum(target[name] != today[name] for name in today)


def restaked(world: Snapshot, shift: int) -> Snapshot:
    """Return a world whose permit holders have each other's stakes."""
    holders = [neuron for neuron in world.neurons if neuron.validator_permit]
    givers = {holder.uid: holders[(place + shift) % len(holders)] for place, holder in enumerate(holders)}
    stakes = ("alpha_stake", "tao_stake", "total_stake")
    neurons = [
        neuron.model_copy(update={name: getattr(givers.get(neuron.uid, neuron), name) for name in stakes})
        for neuron in world.neurons
    ]
    return world.model_copy(update={"neurons": tuple(neurons)})


def eligible(world: Snapshot) -> dict[str, int]:
    """Return the stake weights of the validators that upstream of 2025-08 accepts."""
    return {
        neuron.hotkey: neuron.total_stake
        for neuron in world.neurons
        if neuron.validator_permit and neuron.active and neuron.total_stake >= _STAKE and neuron.alpha_stake >= _ALPHA
    }
