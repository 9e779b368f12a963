"""Dialect lium on the lab's hosts: a fleet of celium moves over, in one story; its hosts are virgin again after it."""

from __future__ import annotations

import pytest
from evm import collateral_contract
from fleet import broken, wait_for
from ruamel.yaml import YAML

from celium_ops.chain.snapshot import load, save

DEFAULT_VALIDATOR = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
OTHER_VALIDATOR = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"


@pytest.fixture(scope="module")
def lium(deployed):
    """Give the fleet with an inventory that says lium, before any deploy of it; what stands is celium."""
    before = deployed.lab.inventory.read_bytes()
    yaml = YAML()
    content = yaml.load(deployed.lab.inventory)
    content["all"]["vars"]["celium_dialect"] = "lium"
    for host in content["all"]["children"]["executors"]["hosts"].values():
        host.pop("executor_validator", None)
    yaml.dump(content, deployed.lab.inventory)
    yield deployed
    deployed.lab.inventory.write_bytes(before)
    # An older miner cannot go back to its tables.
    for host in deployed.names:
        deployed.reset(host)


def environment(fleet, host, role):
    text = fleet.on(host, f"cat /opt/celium/{role}/.env")
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def rows(fleet):
    """Return uuid, validator and price by address."""
    found = fleet.sql("select address, uuid, validator, price_per_gpu from executor").splitlines()
    return {address: rest for address, *rest in (row.split("|") for row in found)}


def test_a_fleet_of_celium_moves_over_and_keeps_its_rows(lium):
    before = lium.sql("select uuid from executor order by address").splitlines()
    lint = lium.run_json("inventory", "lint")
    assert (lint["rc"], lint["findings"]) == (0, []), "the lab's inventory is correct in lium as well"
    answer = lium.deploy()
    assert (answer["rc"], answer["ok"]) == (0, True), answer
    assert lium.sql("select uuid from executor order by address").splitlines() == before
    assert {price for _, _, price in rows(lium).values()} == {"0.5"}, "the price is the miner's to know now"
    assert lium.sql("select version_num from alembic_version") == "33be5b1944a8"
    said = lium.on("executor-1", "docker logs executor-executor-1 2>&1; docker logs executor-monitor-1 2>&1")
    assert "stand-in for the lium executor" in said
    assert "stand-in for the lium monitor" in said
    assert "stand-in for the lium miner" in lium.on("miner-1", "docker logs miner-miner-1 2>&1")


@pytest.fixture
def world(lium, tmp_path):
    """Give a file with the lab's chain, on which upstream's one validator of lium holds the most stake."""
    original, changed = tmp_path / "original.json", tmp_path / "world.json"
    assert lium.run_json("chain", "snapshot", str(original))["rc"] == 0
    chain = load(original)
    first = max((one for one in chain.neurons if one.validator_permit), key=lambda one: one.total_stake)
    neurons = [
        one.model_copy(update={"hotkey": DEFAULT_VALIDATOR}) if one.uid == first.uid else one for one in chain.neurons
    ]
    save(chain.model_copy(update={"neurons": tuple(neurons)}), changed)
    return str(changed)


def test_rows_whose_validator_the_miner_does_not_accept_are_said_and_moved_but_not_under_a_tenant(lium, world):
    before, started = rows(lium), lium.started()
    strange = [name for name in lium.names if name.startswith("executor")]
    status = lium.status()
    assert (status["rc"], [host["name"] for host in status["hosts"] if not host["healthy"]]) == (1, strange), status
    for name in strange:
        (problem,) = status["by_name"][name]["problems"]
        assert f"which miner-1 does not accept: it accepts {DEFAULT_VALIDATOR} only" in problem
        assert "celium-ops assign apply" in status["by_name"][name]["remedy"]
    plan = lium.run_json("plan")
    assert (plan["rc"], [one["kind"] for host in plan["hosts"] for one in host["drift"]]) == (3, ["validator"] * 2)
    answer = lium.deploy()
    assert (answer["rc"], answer["by_name"]["executor-1"]["changed"], rows(lium)) == (0, 0, before)
    assert f"accepts the validator {DEFAULT_VALIDATOR} only, and has executor-1, executor-2" in answer["stderr"]

    rental = "docker run -d --name container_1 --entrypoint sleep $(docker inspect -f {{.Image}} executor-db-1) 300"
    with broken(lium, "executor-2", rental, "docker rm -fv container_1"):
        applied = lium.run_json("assign", "apply", "--network", world, "--yes")
        assert [move["host"] for move in applied["moves"]] == ["executor-1"], applied
        assert rows(lium)[lium.address("executor-2")] == before[lium.address("executor-2")]
    applied = lium.run_json("assign", "apply", "--network", world, "--yes")
    assert [move["host"] for move in applied["moves"]] == ["executor-2"], applied
    after = rows(lium)
    assert {validator for _, validator, _ in after.values()} == {DEFAULT_VALIDATOR}
    assert {place: uuid for place, (uuid, *_) in after.items()} == {place: uuid for place, (uuid, *_) in before.items()}
    assert lium.run_json("plan")["rc"] == 0
    status = lium.status()
    assert (status["rc"], status["ok"], lium.started()) == (0, True, started), status


def test_a_second_deploy_changes_and_restarts_nothing(lium):
    before = lium.started()
    some = ["executor-1", "miner-1", "validator-1"]
    answer = lium.deploy("--full", "--limit", ",".join(some))
    changed = {host["name"]: host["changed"] for host in answer["hosts"]}
    assert (answer["rc"], changed) == (0, dict.fromkeys(some, 0)), answer
    assert lium.started() == before


def test_a_new_executor_is_registered_with_its_price_for_the_one_validator(lium):
    lium.sql("delete from executor where address = (select min(address) from executor)")
    with lium.variables("executor-1", executor_price=0.7):
        answer = lium.deploy("--limit", "executor-1")
        assert (answer["rc"], answer["by_name"]["executor-1"]["registered"]) == (0, True), answer
    uuid, *row = rows(lium)[lium.address("executor-1")]
    assert row == [DEFAULT_VALIDATOR, "0.7"]
    assert lium.on("executor-1", "docker exec executor-executor-1 cat /root/.ssh/authorized_keys") == ""
    # Back to the inventory's price: a change, not a new row.
    problems = lium.status()["by_name"]["executor-1"]["problems"]
    assert problems == ["registered for 0.7, the inventory says 0.5"]
    assert lium.deploy("--limit", "executor-1")["ok"]
    assert rows(lium)[lium.address("executor-1")] == [uuid, DEFAULT_VALIDATOR, "0.5"]
    assert lium.status()["ok"]


def test_the_environments_differ_as_the_contract_says(lium):
    executor = environment(lium, "executor-1", "executor")
    assert "RENTING_PRICE" not in executor
    assert not {"DEFAULT_MINER_HOTKEY", "DEFAULT_VALIDATOR_HOTKEY"} & executor.keys(), "upstream's defaults are its own"
    before = rows(lium)
    lium.set_variable("miner-1", "miner_default_validator", OTHER_VALIDATOR)  # and it stays: a miner serves one
    lium.set_variable("miner-1", "miner_central_mode", False)
    answer = lium.deploy()
    assert (answer["rc"], answer["ok"]) == (0, True), answer
    miner = environment(lium, "miner-1", "miner")
    assert (miner["DEFAULT_VALIDATOR_HOTKEY"], miner["CENTRAL_MODE"]) == (OTHER_VALIDATOR, "false")
    after = rows(lium)
    assert {validator for _, validator, _ in after.values()} == {OTHER_VALIDATOR}, "a miner serves one validator"
    assert {place: uuid for place, (uuid, *_) in after.items()} == {place: uuid for place, (uuid, *_) in before.items()}


def test_upstream_itself_refuses_to_remove_a_row_under_collateral(lium):
    before = rows(lium)
    with collateral_contract(lium) as contract:
        contract.tao = 1
        answer = lium.play("retire", "-e", "retire=executor-1")
        assert "has collateral 1.000000 TAO, cannot remove" in answer["miner-1"]["msg"]
        assert rows(lium) == before
        contract.tao = 0
        assert lium.play("retire", "-e", "retire=executor-1")["executor-1"]["changed"]
    assert before.keys() - rows(lium).keys() == {lium.address("executor-1")}
    assert lium.deploy("--limit", "executor-1")["by_name"]["executor-1"]["registered"] is True


def test_an_executor_that_the_miner_cannot_log_in_to_is_not_registered_and_the_error_says_why(lium):
    lium.sql("delete from executor where address = (select min(address) from executor)")
    lium.on("executor-1", "docker exec executor-executor-1 sh -c 'kill $(cat /run/sshd.pid)'")
    answer = lium.deploy("--limit", "executor-1")
    assert (answer["rc"], answer["by_name"]["executor-1"]["registered"]) == (1, False), answer
    assert "executor-1" in answer["by_name"]["miner-1"]["error"]
    assert "executor_ssh_port" in answer["by_name"]["miner-1"]["error"]
    lium.on("executor-1", "docker restart executor-executor-1")
    wait_for(lambda: not lium.status()["by_name"]["executor-1"]["problems"][1:])
    assert lium.deploy("--limit", "executor-1")["ok"]
    assert lium.status()["ok"]
