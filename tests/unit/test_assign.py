"""What is made of a plan: the guard against too many moves, the fleet's coverage, the pause until the next round."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from subnet import BLOCK, RAO, neuron, subnet

from celium_ops.assignment.model import Row
from celium_ops.assignment.solve import solve
from celium_ops.base.errors import GuardError
from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.remote.probe import Sight
from celium_ops.workflows import assign, move, watch
from celium_ops.workflows.assign import Assignment, MinerPlan, Wish, additions, validators, wanted
from celium_ops.workflows.candidates import Candidates
from celium_ops.workflows.move import Applied, refuse_too_many, refuse_what_changed

VALUES = {
    "celium_dialect": "celium",
    "miner_assign_max_moves": 50,
    "miner_assign_allow": [],
    "miner_assign_deny": ["hotkey-3"],
}
MINER = Host("miner-1", "miner", Connection("192.0.2.1"), VALUES)
WORLD = subnet(
    neuron(1, total_stake=60_000 * RAO),
    neuron(2, total_stake=40_000 * RAO),
    neuron(3, total_stake=100_000 * RAO),
    neuron(4, validator_permit=False, total_stake=900_000 * RAO),
)


def planned(counts, miner=MINER, world=WORLD):
    """Return the plan for a miner with so many executors at each hotkey."""
    places = [hotkey for hotkey, count in counts.items() for _ in range(count)]
    rows = tuple(Row(f"192.0.2.{number}:8001", hotkey) for number, hotkey in enumerate(places))
    return MinerPlan(miner, Candidates(rows, {}), solve(rows, validators(miner, world), Fraction(1, 4)))


def test_permit_holders_only_and_the_miners_own_lists_count():
    assert {one.hotkey: one.why_not for one in validators(MINER, WORLD)} == {
        "hotkey-1": None,
        "hotkey-2": None,
        "hotkey-3": "denied",
    }


def test_the_fleets_coverage_is_that_of_all_its_miners_together():
    one, two = planned({"hotkey-1": 1}), planned({"hotkey-3": 1})
    assignment = Assignment(WORLD, (one, two))
    assert assignment.coverage("before") == pytest.approx(0.3), "one that is denied covers nothing"
    document = assignment.to_json()
    assert document["coverage"]["after"] == pytest.approx(0.3)
    shares = {entry["hotkey"]: entry["executors_after"] for entry in document["validators"]}
    assert shares == {"hotkey-1": 2, "hotkey-2": 0, "hotkey-3": 0}


TOO_MANY = [
    ({"hotkey-3": 11}, True),
    ({"hotkey-3": 10}, False),
    ({"hotkey-3": 11, "hotkey-1": 7, "hotkey-2": 4}, False),
]


@pytest.mark.parametrize(("counts", "stopped"), TOO_MANY)
def test_a_plan_that_moves_most_of_the_fleet_is_stopped(counts, stopped):
    plan = planned(counts)
    assert sum(move.action == "switch" for move in plan.moves) >= 10
    assert bool(plan.too_many) == stopped
    if stopped:
        with pytest.raises(GuardError, match="11 of 11 executors of miner-1 would move at once"):
            refuse_too_many(Assignment(WORLD, (plan,)), Wish(Path("fleet.yml")))
        refuse_too_many(Assignment(WORLD, (plan,)), Wish(Path("fleet.yml"), override=frozenset({"too-many-moves"})))


def test_a_row_that_nobody_in_the_inventory_has_can_be_handed_over_too():
    plan = planned({"hotkey-3": 1})
    assert wanted(plan, plan.moves[0]) == {
        "name": "192.0.2.0:8001",
        "miner": "miner-1",
        "address": "192.0.2.0",
        "port": 8001,
        "validator": "hotkey-1",
        "price": None,
        "expected": "hotkey-3",
    }


def late(monkeypatch, rentals=("pod_1",), age=timedelta(), network="node", **wish):
    """Look again at a plan that moves a host, so long after the chain was read."""
    host = Host("gpu-1", "executor", Connection("192.0.2.0"), {})
    plan = planned({"hotkey-3": 1})
    plan = replace(plan, candidates=replace(plan.candidates, hosts={"192.0.2.0:8001": host}))
    monkeypatch.setattr(move, "probe", lambda hosts: {one.name: Sight(True, rentals=rentals) for one in hosts})
    monkeypatch.setattr(move, "find_source", lambda *_: SimpleNamespace(network=network))
    snapshot = WORLD.model_copy(update={"block_time": datetime.now(UTC) - age})
    refuse_what_changed(Assignment(snapshot, (plan,)), Wish(Path("fleet.yml"), **wish))


def test_who_took_his_time_to_agree_moves_no_tenant_and_trusts_no_old_stake(monkeypatch):
    late(monkeypatch, rentals=())
    late(monkeypatch, even_if_rented=True)
    late(monkeypatch, rentals=(), age=timedelta(hours=1), network="snapshot.json")
    late(monkeypatch, rentals=(), age=timedelta(hours=1), override=frozenset({"chain-stale"}))
    with pytest.raises(GuardError, match=r"gpu-1 rented \(pod_1\)"):
        late(monkeypatch)
    with pytest.raises(GuardError, match="gpu-1 cannot be asked"):
        late(monkeypatch, rentals=None)
    with pytest.raises(GuardError) as stopped:
        late(monkeypatch, rentals=(), age=timedelta(hours=1))
    assert stopped.value.code == "chain-stale"


def test_newcomers_are_placed_by_what_all_executors_are_worth(monkeypatch):
    values = {"executor_miner": "miner-1", "executor_external_port": 8001}
    names = {"192.0.2.1": 8, "192.0.2.2": 1, "192.0.2.3": 1, "192.0.2.4": 1}
    hosts = {
        name: Host(name, "executor", Connection(name), {**values, "executor_address": name, "executor_weight": weight})
        for name, weight in names.items()
    }
    miner = replace(MINER, values={**VALUES, "miner_assign_coverage": 100})
    served = {"192.0.2.1": "hotkey-1", "192.0.2.2": "hotkey-2", "192.0.2.3": "hotkey-2"}
    rows = [{"uuid": n, "address": n, "port": 8001, "validator": hotkey} for n, hotkey in served.items()]
    monkeypatch.setattr(assign, "reading", lambda _: WORLD)
    monkeypatch.setattr(assign, "probe", lambda _: {"miner-1": Sight(True, registry=rows)})
    fleet = Fleet(Path("fleet.yml"), {"miner-1": miner, **hosts})
    (record,) = additions(fleet, [hosts["192.0.2.4"]], [])
    assert record["validator"] == "hotkey-2", "the one of weight 8 is more than the share of hotkey-1"


@pytest.mark.parametrize(("since", "blocks"), [(10, 350), (0, 360), (359, 1), (370, 350)])
def test_the_next_round_comes_after_the_next_epoch(since, blocks, monkeypatch):
    monkeypatch.setattr(watch.random, "uniform", lambda low, _high: low)
    world = WORLD.model_copy(update={"subnet": WORLD.subnet.model_copy(update={"last_step": BLOCK - since})})
    assert watch.until_next_epoch(Applied(None, Assignment(world, ()))) == (blocks + 2) * 12
