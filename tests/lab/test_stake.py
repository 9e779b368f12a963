"""Executors follow the stake: the simulated chain through the real SDK, the plan, and the rows in the miner's database.

What the plan should be is worked out here by trying every assignment there is.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

import pytest
from fleet import broken

from celium_ops.chain.snapshot import Snapshot, load, save

ELIGIBLE_STAKE = 20_000 * 10**9
ELIGIBLE_ALPHA = 10 * 10**9


@pytest.fixture
def chain(deployed, tmp_path):
    """Give what serves another world from the simulated chain; afterwards it is as it was."""
    original = tmp_path / "original.json"
    deployed.run_json("chain", "snapshot", str(original))

    def serve(change):
        world = tmp_path / "world.json"
        save(change(load(original)), world)
        deployed.lab.ok("lab", "chain", "set", str(world))
        return load(world)

    yield serve
    deployed.lab.ok("lab", "chain", "fault", "clear")
    deployed.lab.ok("lab", "chain", "set", str(original))


def rows(fleet):
    """Return the validator and the uuid of each executor, as the database has them."""
    lines = fleet.sql("select address, port, validator, uuid from executor").splitlines()
    found = (line.split("|") for line in lines)
    return {f"{address}:{port}": (validator, uuid) for address, port, validator, uuid in found}


def best(world: Snapshot, today: dict[str, str]) -> tuple:
    """Return (coverage up to one half, sum of squares, moves) of the best assignment of all."""
    holders = {neuron.hotkey: neuron for neuron in world.neurons if neuron.validator_permit}
    good = {
        hotkey: neuron.total_stake
        for hotkey, neuron in holders.items()
        if neuron.active and neuron.total_stake >= ELIGIBLE_STAKE and neuron.alpha_stake >= ELIGIBLE_ALPHA
    }
    targets = itertools.product(good, repeat=len(today))
    return min(measured(dict(zip(today, target, strict=True)), today, good, holders) for target in targets)


def measured(target, today, good, holders):
    """Return what is to be least: the missing coverage, the sum of squares, the moves."""
    stake = sum(neuron.total_stake for neuron in holders.values())
    covered = Fraction(sum(good[hotkey] for hotkey in set(target.values())), stake)
    counts = [list(target.values()).count(hotkey) for hotkey in good]
    due = [Fraction(len(target) * mine, sum(good.values())) for mine in good.values()]
    squares = sum((have - wanted) ** 2 for have, wanted in zip(counts, due, strict=True))
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


@pytest.mark.parametrize("shift", [0, 3])
def test_the_rows_become_what_an_independent_solver_finds(fleet, chain, shift):
    world = chain(lambda snapshot: restaked(snapshot, shift))
    before = rows(fleet)
    today = {name: validator for name, (validator, _) in before.items()}
    plan = fleet.run_json("assign", "plan")
    assert rows(fleet) == before, "a plan changes nothing"
    assert plan["rc"] == (3 if plan["moves"] else 0)

    applied = fleet.run_json("assign", "apply", "--yes")
    assert (applied["rc"], applied["ok"]) == (0, True), applied
    assert [(move["executor"], move["to"]) for move in applied["moves"]] == [
        (move["executor"], move["to"]) for move in plan["moves"]
    ]
    after = rows(fleet)
    moved = {move["executor"]: move["to"] for move in plan["moves"]}
    assert {name: validator for name, (validator, _) in after.items()} == {**today, **moved}
    assert {name: uuid for name, (_, uuid) in after.items()} == {name: uuid for name, (_, uuid) in before.items()}

    holders = {neuron.hotkey: neuron for neuron in world.neurons if neuron.validator_permit}
    good = {
        hotkey: neuron.total_stake
        for hotkey, neuron in holders.items()
        if neuron.active and neuron.total_stake >= ELIGIBLE_STAKE and neuron.alpha_stake >= ELIGIBLE_ALPHA
    }
    assert measured({**today, **moved}, today, good, holders) == best(world, today)
    again = fleet.run_json("assign", "apply", "--yes")
    assert (again["rc"], again["moves"], again["run"]) == (0, [], None)


def test_what_was_moved_is_in_the_history(fleet, chain):
    chain(lambda snapshot: restaked(snapshot, 5))
    applied = fleet.run_json("assign", "apply", "--yes")
    newest = fleet.run_json("assign", "history")["runs"][0]
    assert applied["moves"]
    assert (newest["run"], newest["block"], newest["moves"]) == (applied["run"], applied["block"], applied["moves"])
    assert applied["run"] in fleet.run("assign", "history").stdout


def test_nothing_is_moved_without_a_yes(fleet, chain):
    chain(lambda snapshot: restaked(snapshot, 7))
    before = rows(fleet)
    answer = fleet.run_json("assign", "apply")
    assert (answer["rc"], answer["error"]["code"], rows(fleet)) == (2, "not-confirmed", before)


def test_the_watch_moves_when_the_stake_does_and_ends_when_it_is_told(fleet, chain):
    chain(lambda snapshot: restaked(snapshot, 8))
    before = rows(fleet)
    watch = fleet.lab.start("-i", str(fleet.lab.inventory), "assign", "watch", "--yes")
    try:
        said = watch.stdout.readline()
        assert re.match(r"block \d+: [1-9]\d* moves, coverage .*; next in \d+ minutes", said), watch.stderr.read()
    finally:
        watch.terminate()
        watch.communicate(timeout=30)
    assert watch.returncode == 130
    assert rows(fleet) != before
    assert fleet.run_json("assign", "plan")["moves"] == []


def test_a_rented_executor_stays(fleet, chain):
    chain(lambda snapshot: restaked(snapshot, 9))
    image = fleet.on("executor-1", "docker inspect -f '{{.Config.Image}}' executor-monitor-1")
    rent = f"docker run -d --name pod_rented --entrypoint sleep {image} 600"
    host = fleet.run_json("inventory", "show", "executor-1")["hosts"][0]
    with broken(fleet, "executor-1", rent, "docker rm -f pod_rented"):
        plan = fleet.run_json("assign", "plan")
        locked = plan["miners"][0]["locked"]
        assert list(locked.values()) == ["rented (pod_rented)"]
        assert all(move["host"] != "executor-1" for move in plan["moves"])
        assert "executor-1" in {move["host"] for move in fleet.run_json("assign", "plan", "--even-if-rented")["moves"]}
    assert host["address"] in next(iter(locked))


GUARDED = [("half", "chain-uids-dropped"), ("empty", "chain-empty"), ("no-subnet", "chain-no-subnet")]


@pytest.mark.parametrize(("fault", "code"), [*GUARDED, ("wrong-genesis", "chain-wrong-genesis")])
def test_bad_chain_data_moves_nothing(fleet, chain, fault, code):
    chain(lambda snapshot: restaked(snapshot, 11))
    fleet.run_json("assign", "plan")  # a good reading to compare with
    before = rows(fleet)
    fleet.lab.ok("lab", "chain", "fault", fault)
    answer = fleet.run_json("assign", "apply", "--yes")
    assert (answer["rc"], answer["error"]["code"], rows(fleet)) == (4, code, before), answer
    assert "the last good reading is of block" in answer["error"]["message"]
    assert answer["error"]["remedy"]


def test_a_dead_chain_moves_nothing(fleet, chain):
    chain(lambda snapshot: restaked(snapshot, 11))
    before = rows(fleet)
    fleet.lab.ok("lab", "chain", "fault", "dead")
    answer = fleet.run_json("assign", "apply", "--yes")
    assert (answer["rc"], answer["error"]["code"], rows(fleet)) == (1, "chain-unreachable", before), answer


def test_a_new_executor_gets_its_validator_from_the_stake_and_nobody_else_moves(fleet, chain):
    world = chain(lambda snapshot: restaked(snapshot, 2))
    # The first address is executor-1's.
    fleet.sql("delete from executor where address = (select min(address) from executor)")
    others = rows(fleet)
    fleet.lab.ok("lab", "chain", "fault", "dead")
    answer = fleet.deploy()
    miner, executor = answer["by_name"]["miner-1"], answer["by_name"]["executor-1"]
    assert (answer["rc"], miner["result"], executor["registered"]) == (1, "failed", False), answer
    assert "no validator for executor-1: the chain cannot be read" in miner["error"]
    assert rows(fleet) == others
    fleet.lab.ok("lab", "chain", "fault", "clear")
    answer = fleet.deploy()
    assert (answer["rc"], answer["by_name"]["executor-1"]["registered"]) == (0, True), answer
    after = rows(fleet)
    assert {name: row for name, row in after.items() if name in others} == others
    (new,) = (validator for name, (validator, _) in after.items() if name not in others)
    assert new in {neuron.hotkey for neuron in world.neurons if neuron.validator_permit and neuron.active}


@pytest.mark.usefixtures("deployed")
def test_a_registry_that_cannot_be_read_moves_nothing(fleet):
    with broken(fleet, "miner-1", "docker stop miner-db-1", "docker start miner-db-1"):
        answer = fleet.run_json("assign", "apply", "--yes")
        assert (answer["rc"], answer["error"]["code"], answer["error"]["host"]) == (4, "registry-unreadable", "miner-1")
