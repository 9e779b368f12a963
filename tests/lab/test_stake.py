"""Executors follow the stake: the simulated chain through the real SDK, the plan, and the rows in the miner's database.

What the plan should be is worked out by trying every assignment there is.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import broken, wait_for
from sessions import busy, waits
from stake import best, eligible, measured, restaked, rows

from celium_ops.chain.snapshot import load, save
from celium_ops.lab.chain.faults import Fault


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

    def move(leaver=""):
        """Serve a world that asks for moves, of an executor whose validator has lost its stake if one is named."""
        today = {name: validator for name, (validator, _) in rows(deployed).items()}
        worlds = (restaked(load(original), shift) for shift in range(10))
        for world in worlds:
            leaves = all(today[name] not in eligible(world) for name in today if name.startswith(leaver or "?"))
            if leaves and measured(today, today, world) != best(world, today):
                return serve(lambda _, world=world: world)
        raise AssertionError(f"no such world for {today}")

    serve.move = move
    yield serve
    deployed.lab.ok("lab", "chain", "fault", "clear")
    deployed.lab.ok("lab", "chain", "set", str(original))


@pytest.mark.parametrize("_time", [1, 2])
def test_the_rows_become_what_an_independent_solver_finds(fleet, chain, _time):
    world = chain.move()
    before = rows(fleet)
    today = {name: validator for name, (validator, _) in before.items()}
    plan = fleet.run_json("assign", "plan")
    assert rows(fleet) == before, "a plan changes nothing"
    assert (plan["rc"], bool(plan["moves"])) == (3, True)

    applied = fleet.run_json("assign", "apply", "--yes")
    assert (applied["rc"], applied["ok"]) == (0, True), applied
    assert [(move["executor"], move["to"]) for move in applied["moves"]] == [
        (move["executor"], move["to"]) for move in plan["moves"]
    ]
    after = rows(fleet)
    moved = {move["executor"]: move["to"] for move in plan["moves"]}
    assert {name: validator for name, (validator, _) in after.items()} == {**today, **moved}
    assert {name: uuid for name, (_, uuid) in after.items()} == {name: uuid for name, (_, uuid) in before.items()}

    assert measured({**today, **moved}, today, world) == best(world, today)
    again = fleet.run_json("assign", "apply", "--yes")
    assert (again["rc"], again["moves"], again["run"]) == (0, [], None)


def test_what_was_moved_is_in_the_history(fleet, chain):
    chain.move()
    applied = fleet.run_json("assign", "apply", "--yes")
    newest = fleet.run_json("assign", "history")["runs"][0]
    assert applied["moves"]
    assert (newest["run"], newest["block"], newest["moves"]) == (applied["run"], applied["block"], applied["moves"])
    assert applied["run"] in fleet.run("assign", "history").stdout


def test_nothing_is_moved_without_a_yes(fleet, chain):
    chain.move()
    before = rows(fleet)
    answer = fleet.run_json("assign", "apply")
    assert (answer["rc"], answer["error"]["code"], rows(fleet)) == (2, "not-confirmed", before)


def test_the_watch_moves_when_the_stake_does_and_ends_when_it_is_told(fleet, chain):
    chain.move()
    before = rows(fleet)
    watch = fleet.lab.start("-i", str(fleet.lab.inventory), "assign", "watch", "--yes")
    try:
        said = watch.stdout.readline()
        assert re.match(r"block \d+: [1-9]\d* moves, coverage .*; next in \d+ minutes", said), said
    finally:
        watch.terminate()
        watch.communicate(timeout=30)
    assert watch.returncode == 130
    assert rows(fleet) != before
    assert fleet.run_json("assign", "plan")["moves"] == []


@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "only itself"])
def test_an_apply_that_is_killed_moves_all_or_nothing_and_the_next_one_ends_it(fleet, chain, whole):
    world = chain.move()
    before = served(fleet)
    moves = fleet.run_json("assign", "plan")["moves"]
    expected = {**before, **{move["executor"]: move["to"] for move in moves}}
    program = Path(sys.executable).with_name("celium-ops")
    command = [str(program), "-i", str(fleet.lab.inventory), "assign", "apply", "--yes"]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with busy(fleet) as say:
        run = subprocess.Popen(command, env=fleet.lab.env, start_new_session=True, **quiet)
        wait_for(lambda: waits(fleet))
        os.killpg(run.pid, signal.SIGKILL) if whole else run.kill()
        run.wait()
        assert served(fleet) == before
        say("commit;")
    wait_for(lambda: not fleet.lab.on("miner-1", "pgrep -f [m]iner_registry || true"))
    assert served(fleet) in (before, expected)

    applied = fleet.run_json("assign", "apply", "--yes")
    assert applied["rc"] == 0, applied
    after = served(fleet)
    assert after == expected
    assert measured(after, after, world) == best(world, after)
    assert "died" in [one["state"] for one in fleet.run_json("runs", "list")["runs"]][:3]


def served(fleet):
    """Return the validator of each executor."""
    return {name: validator for name, (validator, _) in rows(fleet).items()}


def test_a_rented_executor_stays(fleet, chain):
    address = fleet.address("executor-1")
    chain.move(leaver=f"{address}:")
    image = fleet.on("executor-1", "docker inspect -f '{{.Config.Image}}' executor-monitor-1")
    rent = f"docker run -d --name pod_rented --entrypoint sleep {image} 600 && docker pause pod_rented"
    with broken(fleet, "executor-1", rent, "docker rm -f pod_rented"):
        plan = fleet.run_json("assign", "plan")
        locked = plan["miners"][0]["locked"]
        assert list(locked.values()) == ["rented (pod_rented)"]
        assert all(move["host"] != "executor-1" for move in plan["moves"])
        assert "executor-1" in {move["host"] for move in fleet.run_json("assign", "plan", "--even-if-rented")["moves"]}
    assert next(iter(locked)).startswith(f"{address}:")


BAD_DATA = {
    "half": "chain-uids-dropped",
    "empty": "chain-empty",
    "no-subnet": "chain-no-subnet",
    "wrong-genesis": "chain-wrong-genesis",
    "flapping": "chain-stake-unsettled",
    "still": "chain-stale",
}
NO_DATA = {
    "dead": "chain-unreachable",
    "429": "chain-rate-limited",
    "policy": "chain-rate-limited",
    "pruned": "chain-error",
    "dropping": "chain-unreachable",
    "closing": "chain-timeout",
    "slow": "chain-timeout",
}
PATIENCE = {"chain-timeout": 3, "chain-rate-limited": 10}
"""Seconds for what is waited for until they are over; everything else is known when it is read."""


def test_a_chain_that_misbehaves_moves_nothing(fleet, chain):
    chain.move()
    assert fleet.run_json("assign", "plan")["moves"], "a good reading to compare with"
    before = rows(fleet)
    for fault, code in (BAD_DATA | NO_DATA).items():
        fleet.lab.ok("lab", "chain", "fault", fault)
        seconds = PATIENCE.get(code, 60)
        answer = fleet.run_json("assign", "apply", "--yes", "--timeout", str(seconds))
        assert (answer["rc"], answer["error"]["code"]) == (4 if fault in BAD_DATA else 1, code), (fault, answer)
        assert "the last good reading is of block" in answer["error"]["message"], fault
        assert answer["error"]["remedy"], fault
        assert rows(fleet) == before, fault
    assert {*BAD_DATA, *NO_DATA} == set(Fault)
    fleet.lab.ok("lab", "chain", "fault", "clear")
    assert fleet.run_json("assign", "plan")["moves"], "nothing of it is remembered"


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
