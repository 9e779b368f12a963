"""Five hundred ticks of a chain that misbehaves, over the real socket through the SDK into a real registry.

Not part of ``make test``: ``make campaign`` runs it, takes about 40 minutes, and reports the ticks of each fault.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from stake import best, measured, restaked, rows

from celium_ops.base.errors import CeliumError
from celium_ops.lab import lab
from celium_ops.lab.chain.faults import Fault
from celium_ops.workflows.assign import Wish
from celium_ops.workflows.move import apply

TICKS = 500
RESULT = Path(__file__).parents[2] / "bench" / "results" / "campaign.json"


def nothing(*_arguments):
    """Agree to everything and say nothing."""


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_no_move_is_wrong(deployed, monkeypatch):
    for name, value in deployed.lab.env.items():
        monkeypatch.setenv(name, value)
    chance = random.Random(51)  # noqa: S311  the same ticks every time
    kept = []
    lab.change_chain(deployed.lab.name, lambda state, _now: kept.append(state.snapshot) or state)
    (original,) = kept
    world, seen, refused, moved = original, Counter(), Counter(), Counter()
    wish = Wish(deployed.lab.inventory, seconds=3)
    before = rows(deployed)
    try:
        for _ in range(TICKS):
            if chance.random() < 0.2:
                world = restaked(original, chance.randrange(10))
                lab.change_chain(deployed.lab.name, lambda state, now, world=world: state.with_snapshot(world, now))
            fault = chance.choice([None, None, None, *Fault])
            lab.change_chain(deployed.lab.name, lambda state, now, fault=fault: state.with_fault(fault, now))
            key = str(fault or "no fault")
            seen[key] += 1
            try:
                moves = apply(wish, nothing, nothing, nothing).made
            except CeliumError as error:
                assert fault is not None, error  # noqa: PT017  most ticks raise nothing
                refused[f"{key}: {error.code}"] += 1
                moves = []
            moved[key] += len(moves)
            after = rows(deployed)
            today = {name: validator for name, (validator, _) in before.items()}
            target = {name: validator for name, (validator, _) in after.items()}
            assert {name: uuid for name, (_, uuid) in after.items()} == {
                name: uuid for name, (_, uuid) in before.items()
            }
            assert target == today if not moves else measured(target, today, world) == best(world, today), fault
            if fault is None:
                assert measured(target, target, world) == best(world, target), "nothing is left to move"
            before = after
    finally:
        lab.change_chain(deployed.lab.name, lambda state, now: state.with_fault(None, now).with_snapshot(original, now))
    assert min(seen[fault] for fault in Fault) >= 15, seen
    counts = {"ticks": seen, "refused": refused, "moves": moved}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({name: dict(sorted(found.items())) for name, found in counts.items()}, indent=1) + "\n"
    )
