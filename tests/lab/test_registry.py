"""The module ``miner_registry`` and the playbook ``retire`` on a real miner, over SSH, into a real Postgres.

The rows are made up: a miner of dialect celium takes an executor's word for nothing, and asks nobody. Whatever a test
does to the registry is undone after it.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import ansible.module_utils
import pytest
from evm import collateral_contract
from fleet import broken, wait_for
from ruamel.yaml import YAML
from sessions import busy, waits, write

from celium_ops.base.paths import collection_dir

A = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
B = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
C = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
NOT_ANSWERING = "docker stop -t 0 miner-db-1"
ANSWERING = "docker start miner-db-1; until docker exec miner-db-1 pg_isready -qh 127.0.0.1; do sleep 0.1; done"


@pytest.fixture(scope="module")
def miner(deployed):
    """Give the fleet with a miner whose collateral contract we answer for: ``miner.contract.tao``."""
    with collateral_contract(deployed) as contract:
        deployed.contract = contract
        yield deployed


@pytest.fixture(autouse=True)
def rows_of_before(deployed):
    """Put the registry back as it was."""
    kept = json.loads(write(deployed, "select coalesce(json_agg(executor), '[]') from executor"))
    yield
    fill(deployed, kept)


def fill(fleet, rows):
    """Let the registry hold these rows and no others."""
    content = f"json_populate_recordset(null::executor, $rows${json.dumps(rows)}$rows$)"
    write(fleet, f"begin; truncate executor; insert into executor select * from {content}; commit;")  # noqa: S608 - our own


def have(fleet, **validators):
    """Let the registry hold rows with these validators, named r1 and so on; return them as ``rows`` does."""
    fill(fleet, [{**where(name), "uuid": uuid_of(name), "validator": key} for name, key in validators.items()])
    return rows(fleet)


def rows(fleet):
    """Return uuid and validator of every row by the name that belongs to its address."""
    lines = write(fleet, "select address, uuid, validator from executor").splitlines()
    found = (line.split("|") for line in lines)
    return {f"r{address.rpartition('.')[2]}": (uuid, validator) for address, uuid, validator in found}


def uuid_of(name):
    return f"00000000-0000-4000-8000-{int(name[1:]):012}"


def where(name):
    return {"address": f"10.9.0.{name[1:]}", "port": 8001}


def executor(name, validator=None, **more):
    return {"name": name, "miner": "miner-1", **where(name), "validator": validator, **more}


def register(fleet, executors=(), absent=(), *flags, **variables):
    """Run the playbook, as celium-ops does; return what the module answered."""
    variables |= {
        "miner_executors": list(executors),
        "miner_absent": [{**where(n), "miner": "miner-1"} for n in absent],
    }
    answer = fleet.play("register", *flags, "-e", json.dumps(variables))
    return answer["miner-1"]


def test_one_call_adds_switches_and_removes_and_a_second_one_does_nothing(miner):
    before = have(miner, r1=A, r2=A, r3=B, r4=B)
    wanted = [executor("r1", A), executor("r2", B, expected=A), executor("r5", C, expected="unregistered")]
    plan = register(miner, wanted, ["r3", "r9"], "--check", "--diff")
    assert rows(miner) == before
    assert [one["actions"] for one in plan["executors"]] == [[], ["switch"], ["add"]]
    assert not plan.get("failed"), plan["msg"]
    assert plan["diff"]["before"].splitlines() == [f"10.9.0.2:8001 for {A}", f"10.9.0.3:8001 for {B}"]
    assert plan["diff"]["after"].splitlines() == [f"10.9.0.2:8001 for {B}", f"10.9.0.5:8001 for {C}"]

    answer = register(miner, wanted, ["r3", "r9"])
    assert answer["changed"], answer
    assert [one["registered"] for one in answer["executors"]] == [True] * 3
    assert [(one["actions"], one["registered"]) for one in answer["absent"]] == [(["remove"], False), ([], False)]
    assert answer["others"] == [{**where("r4"), "validator": B}]
    after = rows(miner)
    assert after.pop("r5")[1] == C
    assert after == {"r1": before["r1"], "r2": (before["r2"][0], B), "r4": before["r4"]}
    assert not register(miner, wanted, ["r3", "r9"])["changed"]


def test_a_row_under_collateral_is_never_removed(miner):
    before = have(miner, r1=A, r2=A)
    miner.contract.tao = 1.5
    for flags in ((), ("--check",)):
        answer = register(miner, [], ["r1"], *flags, miner_even_if_collateral_unknown=True)
        assert answer["failed"]
        assert "10.9.0.1:8001: it stays, since the contract holds 1.5 TAO of collateral for it" in answer["msg"]
    assert rows(miner) == before
    miner.contract.tao = None
    answer = register(miner, [executor("r2", B)], ["r1"])
    assert "its collateral cannot be read" in answer["msg"]
    assert "Cannot connect to host" in answer["msg"], "upstream's own words"
    assert rows(miner) == {**before, "r2": (uuid_of("r2"), B)}, "the others are done all the same"
    assert register(miner, [], ["r1"], miner_even_if_collateral_unknown=True)["changed"]
    assert list(rows(miner)) == ["r2"]
    miner.contract.tao = 0


UNEXPECTED = [
    (executor("r2", B, expected=C), f"r2 (10.9.0.2:8001) is registered for {A}, then registered for {C}"),
    (executor("r2", B, expected="unregistered"), f"r2 (10.9.0.2:8001) is registered for {A}, then not registered"),
    (executor("r3", B, expected=A), f"r3 (10.9.0.3:8001) is not registered, then registered for {A}"),
    (executor("r2", A, expected=C), None),
]


@pytest.mark.parametrize(("one", "surprise"), UNEXPECTED)
def test_a_plan_that_saw_another_registry_changes_nothing(miner, one, surprise):
    before = have(miner, r1=A, r2=A)
    answer = register(
        miner, [executor("r1", B, expected=A), one, executor("r4", B)], ["r2"] if one["name"] != "r2" else []
    )
    if surprise:
        assert "plan again" in answer["msg"]
        assert surprise in answer["msg"]
        assert rows(miner) == before
    else:
        assert answer["changed"], "what is as wanted already is a run that goes on"


def test_a_row_that_changes_while_the_module_runs_stops_every_change(miner, host):
    before = have(miner, r1=A, r2=A, r3=C, r4=C)
    with busy(miner) as say:
        run = host.start([executor("r1", B), executor("r2", B)], ["r4"])
        wait_for(lambda: waits(miner))
        say(f"update executor set validator = '{B}' where address = '10.9.0.3'; commit;")  # noqa: S608 - our own
        run.communicate()
    answer = host.answer()
    assert answer["msg"] == (
        "the registry is not as wanted: r1, r2, 10.9.0.4:8001: "
        "not done, since the registry changed while this ran; plan again"
    )
    assert rows(miner) == {**before, "r3": (uuid_of("r3"), B)}


def test_an_executor_without_a_validator_keeps_its_own_or_waits_for_one(miner):
    before = have(miner, r1=A)
    answer = register(miner, [executor("r1"), executor("r2")])
    assert (answer.get("failed", False), answer["changed"]) == (False, False)
    assert [(one["registered"], one["unassigned"]) for one in answer["executors"]] == [(True, False), (False, True)]
    assert "no validator: r2; celium-ops deploy or celium-ops assign" in answer["warnings"][0]
    assert rows(miner) == before


def test_what_is_not_to_be_added_is_missing_and_the_rest_is_done(miner):
    before = have(miner, r1=A)
    answer = register(miner, [executor("r1", B), executor("r2", A)], ["r3"], miner_register_new=False)
    assert not answer.get("failed"), answer["msg"]
    assert [(one["registered"], one["missing"], one["actions"]) for one in answer["executors"]] == [
        (True, False, ["switch"]),
        (False, True, []),
    ]
    assert rows(miner) == {"r1": (before["r1"][0], B)}


def test_a_registry_that_cannot_be_read_is_left_alone(miner):
    before = have(miner, r1=A)
    with broken(miner, "miner-1", NOT_ANSWERING, ANSWERING):
        for flags in ((), ("--check",)):
            answer = register(miner, [executor("r1", B), executor("r2", B)], [], *flags)
            assert "the registry cannot be read, so nothing was changed: the database" in answer["msg"]
    assert rows(miner) == before


def test_an_executor_that_cannot_be_added_stops_what_may_rest_on_it(miner):
    before = have(miner, r1=A, r3=A)
    up = "docker start miner-miner-1; until docker exec miner-miner-1 true 2>/dev/null; do sleep 0.1; done"
    with broken(miner, "miner-1", "docker stop -t 0 miner-miner-1", up):
        answer = register(miner, [executor("r1", B), executor("r2", A)], ["r3"])
    assert "r2: it is not in the registry; upstream said: Error response from daemon" in answer["msg"]
    assert "r1, 10.9.0.3:8001: not done, since another executor could not be added" in answer["msg"]
    assert rows(miner) == before


def test_text_in_the_registry_and_in_a_call_is_only_ever_data(miner):
    hostile = "x'); drop table executor; --\\.\t\u0001\u0002$a$ :x %s {document} é"
    fill(
        miner,
        [
            {"uuid": uuid_of("r1"), **where("r1"), "validator": hostile},
            {"uuid": uuid_of("r2"), **where("r2"), "address": hostile, "validator": A},
        ],
    )
    answer = register(miner, [executor("r1", B, expected=hostile)])
    assert answer["changed"], answer
    assert answer["others"] == [{"address": hostile, "port": 8001, "validator": A}]
    assert write(miner, "select validator from executor where address = $$10.9.0.1$$") == B
    assert "is no hotkey" in register(miner, [executor("r1", hostile)])["msg"]
    assert "is no address" in register(miner, [{**executor("r1", A), "address": "--help"}])["msg"]


# --- Killed -----------------------------------------------------------------------------------------------------------


# Runs the module and kills it when it has started its so many-th program, after a delay: never, if there is none.
# What it started goes on and ends by itself, so it waits for that. Prints the exit code and the number of programs.
KILLER = """
import pathlib, subprocess, sys, time

nth, delay = int(sys.argv[1]), float(sys.argv[2])
module = subprocess.Popen([sys.executable, "-m", sys.argv[3], "arguments"], stdout=open("answer", "w"))
children, seen = pathlib.Path(f"/proc/{module.pid}/task/{module.pid}/children"), []
while module.poll() is None and len(seen) < nth:
    try:
        seen += [child for child in children.read_text().split() if child not in seen]
    except OSError:
        continue
    time.sleep(0.002)
if len(seen) == nth:
    time.sleep(delay)
    module.kill()
print(module.wait(), len(seen))
while subprocess.run(["pgrep", "-f", "psql -v|src/cli.py"], stdout=subprocess.DEVNULL).returncode == 0:
    time.sleep(0.02)
"""


class MinerHost:
    """The module's own source on the miner's host, as Ansible would have put it there."""

    MODULE = "ansible_collections.celium.ops.plugins.modules.miner_registry"

    def __init__(self, fleet):
        self.fleet = fleet
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            library = Path(ansible.module_utils.__file__).parent
            archive.add(library, "ansible/module_utils", filter=_no_caches)
            archive.add(library.parent / "release.py", "ansible/release.py")
            archive.add(collection_dir() / "plugins", "ansible_collections/celium/ops/plugins", filter=_no_caches)
        self.inside(
            "rm -rf /root/module; mkdir /root/module; cd /root/module; tar x; touch ansible/__init__.py", content
        )
        self.inside("cat > /root/module/killer.py", io.BytesIO(KILLER.encode()))

    def inside(self, script, content=None):
        return self.fleet.lab.pipe("miner-1", script, content.getvalue() if content else b"").decode()

    def ask(self, executors, absent=()):
        arguments = {"executors": list(executors), "absent": [where(name) for name in absent]}
        content = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        self.inside("cat > /root/module/arguments", io.BytesIO(content))

    def start(self, executors, absent=()):
        self.ask(executors, absent)
        command = ["docker", "exec", self.fleet.lab.docker_name("miner-1"), "sh", "-c"]
        return subprocess.Popen([*command, self._killer(99)], stdout=subprocess.PIPE, text=True)

    def run(self):
        """Run it to its end; return the number of programs that it started."""
        return int(self.inside(self._killer(99)).split()[1])

    def answer(self):
        return json.loads(self.inside("cat /root/module/answer"))

    def killed(self, nth, delay):
        """Run it and kill it on the way; tell whether it was still at work."""
        return self.inside(self._killer(nth, delay)).split()[0] == "-9"

    def _killer(self, nth, delay=0.0):
        return f"cd /root/module && exec python3 killer.py {nth} {delay:.3f} {self.MODULE}"


def _no_caches(entry):
    return None if "__pycache__" in entry.name else entry


@pytest.fixture(scope="module")
def host(deployed):
    return MinerHost(deployed)


# The only executor of B moves away, and a new one comes in its place: nobody may find B without any.
FLEET = [f"r{number}" for number in range(1, 41)]
SWITCHES = [executor("r1", C, expected=B), *(executor(name, C, expected=A) for name in FLEET[1:])]
BEFORE = {**dict.fromkeys(FLEET, A), "r1": B, "r60": A, "r61": C}
# What is asked for, which rows are to go, and the programs it starts. It is killed at the start of each, and once more
# a little after the start of those that write.
KILLS = [
    (SWITCHES, [], ["read", "write", "read"]),
    (
        [executor("r50", B, expected="unregistered"), *SWITCHES],
        ["r60"],
        ["read", "add", "read", "write", "collateral", "remove", "read"],
    ),
]
WRITING = ("add", "write", "remove")
LATER = 0.15


def whole(found, wanted, absent):
    """Assert that nothing is half done; return what is done: switches, additions, the number of removals."""
    switched = {name for name in FLEET if found[name][1] == C}
    assert switched in (set(), set(FLEET)), "all are switched, or none"
    for name, (uuid, validator) in found.items():
        wants = {one["name"]: one["validator"] for one in wanted}.get(name)
        assert validator in (BEFORE.get(name), wants)
        assert uuid == uuid_of(name) or name not in BEFORE
    assert BEFORE.keys() - found.keys() <= set(absent)
    if "r50" in (one["name"] for one in wanted):
        assert B in {validator for _, validator in found.values()}, "no validator is left without an executor"
    return bool(switched), "r50" in found, len(BEFORE.keys() - found.keys())


@pytest.mark.parametrize(("wanted", "absent", "programs"), KILLS)
def test_killed_at_any_point_nothing_is_half_done_and_the_next_run_ends_it(
    miner, host, wanted, absent, programs, capsys
):
    seeded = random.Random(51)  # noqa: S311 - no secret
    host.ask(wanted, absent)
    have(miner, **BEFORE)
    assert host.run() == len(programs)
    after = {name: key for name, (_, key) in rows(miner).items()}
    wants = {one["name"]: one["validator"] for one in wanted}
    assert after == {name: key for name, key in {**BEFORE, **wants}.items() if name not in absent}
    killed, states = 0, set()
    points = [(nth, late) for nth, one in enumerate(programs, 1) for late in range(2 if one in WRITING else 1)]
    for nth, late in points:
        have(miner, **BEFORE)
        killed += host.killed(nth, late and seeded.uniform(0, LATER))
        states.add(whole(rows(miner), wanted, absent))
        host.run()
        assert not host.answer().get("failed"), host.answer()
        assert {name: key for name, (_, key) in rows(miner).items()} == after
    with capsys.disabled():
        sys.stdout.write(f"\nkilled at {killed} points, found (switched, added, removed): {sorted(states)}\n")
    assert killed >= len(points) - 1, "the last program may have ended before its delay"
    assert len(states) >= 2


def test_killed_while_it_waits_for_the_database_all_or_none_is_switched(miner, host):
    wanted = [executor("r1", B), executor("r2", B)]
    for kill, validator in (("[m]odules.miner_registry arg", B), ("[m]odules.miner_registry arg|[p]sql -v", A)):
        have(miner, r1=A, r2=A)
        with busy(miner) as say:
            run = host.start(wanted)
            wait_for(lambda: waits(miner))
            miner.on("miner-1", f"pkill -9 -f '{kill}'")
            say("commit;")
            assert run.communicate()[0].startswith("-9")
        wait_for(lambda: not waits(miner))
        assert {found for _, found in rows(miner).values()} == {validator}
    host.run()
    assert {found for _, found in rows(miner).values()} == {B}


# --- Retired ----------------------------------------------------------------------------------------------------------


def retire(fleet, name, *flags):
    return fleet.play("retire", "-e", f"retire={name}", *flags)


def stack(fleet, name):
    return fleet.on(name, "docker ps -aq --filter label=com.docker.compose.project=executor").split()


def test_an_executor_retires(miner):
    at = miner.address("executor-2")
    volumes = "docker volume ls -q --filter label=com.docker.compose.project"
    before = miner.on("executor-2", volumes)
    rental = "docker run -d --name container_1 --entrypoint sleep $(docker inspect -f {{.Image}} executor-db-1) 300"
    with broken(miner, "executor-2", rental, "docker rm -fv container_1"):
        answer = retire(miner, "executor-2")
        assert "this host is rented out (container_1)" in answer["executor-2"]["msg"]
    dead = "systemctl stop docker.socket docker"
    with broken(miner, "executor-2", dead, "systemctl start docker.socket docker"):
        assert (
            "Docker cannot be asked whether a tenant has this host" in retire(miner, "executor-2")["executor-2"]["msg"]
        )
    # Its containers outlived that, with the old socket of Docker.
    assert miner.status()["by_name"]["executor-2"]["healthy"] is False
    answer = miner.deploy("--limit", "executor-2")
    assert (answer["rc"], miner.status()["by_name"]["executor-2"]["healthy"]) == (0, True), answer
    miner.contract.tao = 1
    answer = retire(miner, "executor-2")
    assert "executor-2: it stays" in answer["miner-1"]["msg"]
    assert len(stack(miner, "executor-2")) == 3, "the row comes first"
    assert at in write(miner, "select address from executor")
    miner.contract.tao = 0
    answer = retire(miner, "executor-2", "--check")
    assert at in write(miner, "select address from executor")
    answer = retire(miner, "executor-2")
    assert answer["executor-2"]["changed"], answer
    assert at not in write(miner, "select address from executor")
    assert stack(miner, "executor-2") == []
    assert before == miner.on("executor-2", volumes) != ""
    assert len(stack(miner, "executor-1")) == 3
    assert miner.deploy("--limit", "executor-2")["by_name"]["executor-2"]["registered"] is True


def test_an_executor_that_cannot_be_reached_is_forgotten_only_when_the_operator_says_so(miner):
    at = miner.address("executor-2")
    rule = "INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset"
    with broken(miner, "executor-2", f"iptables -I {rule}", f"iptables -D {rule}"):
        answer = retire(miner, "executor-2")
        assert "it cannot be told whether it is rented" in answer["executor-2"]["msg"]
        assert at in write(miner, "select address from executor")
        answer = retire(miner, "executor-2", "-e", "celium_even_if_rented=true")
    assert answer["executor-2"]["unreachable"]
    assert at not in write(miner, "select address from executor")
    assert miner.status()["by_name"]["executor-2"]["containers"], "it runs still"


def test_nobody_retires_by_an_empty_name(miner):
    before = rows(miner)
    for name in ("", ",", "nobody"):
        assert "executor-1" not in retire(miner, name)
    assert rows(miner) == before


def test_executors_under_collateral_keep_their_validator(miner):
    write(miner, "update executor set validator = 'nobody with a permit'")
    assert len(miner.run_json("assign", "plan")["moves"]) == len(rows(miner))
    miner.contract.tao = 1.5
    try:
        plan = miner.run_json("assign", "plan")
        assert (plan["rc"], plan["moves"]) == (0, []), plan
        assert set(plan["miners"][0]["locked"].values()) == {"under collateral (1.5 TAO)"}
        with miner.variables("miner-1", miner_assign_keep_collateral=False):
            assert miner.run_json("assign", "plan")["moves"], "a switch keeps the uuid, so it may be allowed"
        miner.contract.tao = None
        plan = miner.run_json("assign", "plan")
        assert (plan["rc"], plan["moves"]) == (0, []), plan
        (locked,) = set(plan["miners"][0]["locked"].values())
        assert "its collateral could not be read (upstream said: Failed in getting miner collateral: " in locked
        applied = miner.run_json("assign", "apply", "--yes")
        assert (applied["rc"], applied["run"]) == (0, None), applied
        for answer in (plan, applied):
            assert "Warning: miner-1: the collateral of executor-1" in answer["stderr"]
            assert "they stay; set miner_evm_rpc_url" in answer["stderr"]
        with miner.variables("miner-1", miner_assign_keep_collateral=False):
            assert miner.run_json("assign", "plan")["moves"], "whatever their collateral"
    finally:
        miner.contract.tao = 0


def test_rows_without_a_host_are_shown_and_removed_only_when_asked(miner):
    fleet_rows = rows(miner)
    assert register(miner, [executor("r9", A)])["changed"]
    # A deploy writes the environment anew, so it has to know of the contract.
    with miner.variables("miner-1", miner_evm_rpc_url=miner.contract.url):
        answer = miner.deploy("--limit", "miner-1")
        assert (answer["rc"], answer["by_name"]["miner-1"]["leftovers"]) == (0, ["10.9.0.9:8001"]), answer
        refused = miner.deploy("--limit", "miner-1", "--prune")
        assert (refused["rc"], refused["error"]["code"]) == (2, "not-confirmed")
        assert "10.9.0.9:8001 (miner-1)" in refused["error"]["message"]

        miner.contract.tao = 1
        answer = miner.deploy("--limit", "miner-1", "--prune", "--yes")
        assert (answer["rc"], answer["by_name"]["miner-1"]["leftovers"]) == (1, ["10.9.0.9:8001"])
        assert "10.9.0.9:8001: it stays, since the contract holds" in answer["by_name"]["miner-1"]["error"]
        miner.contract.tao = 0
        check = miner.deploy("--limit", "miner-1", "--prune", "--check")
        assert (check["rc"], "r9" in rows(miner)) == (3, True), check
        answer = miner.deploy("--limit", "miner-1", "--prune", "--yes")
        assert (answer["rc"], answer["by_name"]["miner-1"]["leftovers"], rows(miner)) == (0, [], fleet_rows), answer


def test_a_row_by_which_a_tenant_pays_stays_at_the_miner_that_its_executor_left(miner):
    before, inventory = rows(miner), YAML().load(miner.lab.inventory)
    miners, executors = (inventory["all"]["children"][group]["hosts"] for group in ("miners", "executors"))
    miners["miner-2"] = {**miners["miner-1"], "miner_external_port": 9999, "miner_hotkey_ss58": C}
    del miners["miner-2"]["miner_wallet_source"]  # it has no such hotkey, and this miner is not played
    executors["executor-1"]["executor_miner"] = "miner-2"
    row = f"{miner.address('executor-1')}:8001 "
    image = miner.on("executor-1", "docker inspect -f '{{.Config.Image}}' executor-monitor-1")
    rent = f"docker run -d --name pod_rented --entrypoint sleep {image} 600"
    with miner.variables("miner-1"):
        YAML().dump(inventory, miner.lab.inventory)
        with broken(miner, "executor-1", rent, "docker rm -f pod_rented"):
            answer = miner.deploy("--limit", "miner-1", "--prune", "--yes")
        assert (answer["rc"], rows(miner)) == (0, before), answer
        assert f"{row}stays in the registry of miner-1: executor-1 rented (pod_rented)" in answer["stderr"]
        asked = miner.deploy("--limit", "miner-1", "--prune")
        assert (asked["rc"], asked["error"]["code"]) == (2, "not-confirmed")
        assert f"{row}(miner-1)" in asked["error"]["message"]
