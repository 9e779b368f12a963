"""Ten thousand ticks of a chain that misbehaves: whatever it says, executors move only as the true stake asks.

The lab's own chain answers, without its socket: ``make campaign`` does the same over the socket and into a registry.
"""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from celium_ops.assignment.model import Row
from celium_ops.assignment.solve import solve
from celium_ops.base.errors import CeliumError
from celium_ops.chain.guards import believe
from celium_ops.fleet.model import Connection, Host
from celium_ops.lab.chain.faults import Fault
from celium_ops.lab.chain.state import State
from celium_ops.lab.chain.worlds import default_world
from celium_ops.workflows.assign import MinerPlan, validators
from celium_ops.workflows.candidates import Candidates

TICKS = 10_000
ROWS = 24
RAO = 10**9
SILENT = {Fault.DEAD, Fault.RATE_LIMIT, Fault.POLICY, Fault.PRUNED, Fault.DROPPING, Fault.CLOSING, Fault.NO_SUBNET}
HARMLESS = {None, Fault.SLOW}
MINER = Host("miner-1", "miner", Connection("192.0.2.1"), {"celium_dialect": "celium"})


class Chain:
    """The simulated chain at a time that the test makes pass."""

    def __init__(self, chance):
        self.chance = chance
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.true = State.begun(default_world(neurons=40), self.now)
        self.changed_at = 0
        self.fault = None

    def pass_time(self):
        """Let blocks pass, and perhaps let the stake change, and let the node have another fault, or none."""
        self.now += timedelta(seconds=self.chance.randrange(12, 6_000))
        if self.chance.random() < 0.2:
            self.true = self.true.with_snapshot(restaked(self.true.snapshot, self.chance), self.now)
            self.changed_at = self.true.head(self.now)
            self.now += timedelta(seconds=self.chance.randrange(240))
        self.fault = self.chance.choice([None, None, None, None, *Fault])

    @property
    def unsettled(self):
        """Tell whether its stake has only just changed."""
        return self.true.head(self.now) - self.changed_at < 7

    def read(self, block):
        """Answer as the node would, the way the reader hands it over."""
        if self.fault in SILENT:
            raise CeliumError(f"the chain cannot be read: {self.fault}")
        state = self.true.with_fault(self.fault, self.now)
        head = state.head(self.now) if block is None else block
        # Before its stake changed, it was another one.
        found = state.at(head)
        if head < self.changed_at:
            found = restaked(found, random.Random(head))  # noqa: S311  the same for the same block
        return found.model_copy(update={"genesis": "0x" + "6" * 64}) if self.fault is Fault.WRONG_GENESIS else found

    @property
    def truth(self):
        """Return the subnet as it is."""
        return self.true.at(self.true.head(self.now))


def restaked(world, chance):
    """Return a world in which the permit holders have other stakes; one or two of them may have lost their permit."""
    lost = chance.randrange(3)
    neurons = []
    for neuron in world.neurons:
        stake = int(chance.lognormvariate(12, 1.5)) * RAO
        if neuron.dividends or neuron.validator_permit:
            permit = chance.random() > lost / 10
            stakes = {"alpha_stake": stake, "tao_stake": 0, "total_stake": stake, "validator_permit": permit}
            neuron = neuron.model_copy(update=stakes)
        neurons.append(neuron)
    return world.model_copy(update={"neurons": tuple(neurons)})


def planned(rows, snapshot):
    found = tuple(Row(executor, validator) for executor, validator in rows.items())
    return MinerPlan(MINER, Candidates(found, {}), solve(found, validators(MINER, snapshot)))


@pytest.mark.timeout(300)
def test_no_move_is_wrong_and_none_is_missing():
    chance = random.Random(51)  # noqa: S311  the same ticks every time
    chain, seen, moved = Chain(chance), Counter(), Counter()
    rows = {f"192.0.2.{number}:8001": None for number in range(ROWS)}
    good = None
    for _ in range(TICKS):
        chain.pass_time()
        right = planned(rows, chain.truth)
        seen[chain.fault] += 1
        try:
            good = believe(chain.read, good, chain.now)
        except CeliumError as error:
            excused = error.code == "chain-stake-unsettled" and chain.unsettled
            assert excused or chain.fault not in HARMLESS, error  # noqa: PT017  most ticks raise nothing
            continue
        plan = planned(rows, good)
        assert plan.moves == right.moves, f"{chain.fault}: {plan.moves}"
        rows |= {move.executor: move.to for move in plan.moves}
        moved[chain.fault] += len(plan.moves)
    assert min(seen[fault] for fault in Fault) > TICKS // 40, seen
    assert moved[None] > TICKS // 10, moved
