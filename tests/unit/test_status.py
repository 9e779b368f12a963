"""When a host counts as healthy."""

from dataclasses import replace
from hashlib import sha1
from pathlib import Path

import pytest

from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.registry.rows import Registration
from celium_ops.remote.probe import Container, Sight, _seen
from celium_ops.workflows.status import SERVICES, judge

VALIDATOR = "5F7X5UpKSr26KU3jKfpLmT8kuKtBNyHhEnfS8xtxPCqCb13p"
VALUES = {
    "executor_address": "192.0.2.9",
    "executor_external_port": 8001,
    "executor_miner": "miner-1",
    "executor_validator": VALIDATOR,
}
HOST = Host("gpu-1", "executor", Connection("192.0.2.9"), VALUES)
LIUM = replace(HOST, values={**VALUES, "celium_dialect": "lium", "executor_price": 0.7})
LIUM_MINER = Host("miner-1", "miner", Connection("192.0.2.1"), {"celium_dialect": "lium"})
ROW = Registration("u", "192.0.2.9", 8001, VALIDATOR)
MINER = Host("miner-1", "miner", Connection("192.0.2.1"), {})
FLEET = Fleet(Path("fleet.yml"), {"miner-1": MINER, "gpu-1": HOST})


ENVIRONMENT = {".env": "A=1\n", "db.env": "B=2\n"}


def container(service, state="running", health="healthy", outdated=False):
    started = "2026-11-20T10:00:00Z"
    return Container(f"executor-{service}-1", service, "image", "sha256:0", state, health, started, outdated)


WELL = tuple(container(service) for service in SERVICES["executor"])


def status(containers=WELL, row=ROW, host=HOST, registries=None, miner=None, **sight):
    known = {"miner-1": {(row.address, row.port): row} if row else {}} if registries is None else registries
    on_host = {
        name: sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in ENVIRONMENT.items()
    } | sight.pop("changed", {})
    miner = miner or (LIUM_MINER if host.lium else MINER)
    fleet = replace(FLEET, hosts={"miner-1": miner, "gpu-1": host})
    return judge(fleet, host, Sight(True, on_host, containers, **sight), known, ENVIRONMENT)


def test_everything_in_place_is_healthy():
    answer = status()
    assert (answer.healthy, answer.registered, answer.validator, answer.problems) == (True, True, VALIDATOR, ())
    assert answer.env_up_to_date is True


@pytest.mark.parametrize(
    "sight",
    [
        {"changed": {".env": sha1(b"A=2\n", usedforsecurity=False).hexdigest()}},
        {"changed": {"left.env": sha1(b"", usedforsecurity=False).hexdigest()}},
        {"containers": (*WELL[:-1], container("monitor", outdated=True))},
    ],
    ids=["other content", "a file too many", "container made before its file"],
)
def test_an_environment_that_waits_for_a_deploy_is_told_and_makes_nobody_sick(sight):
    answer = status(**sight)
    assert (answer.env_up_to_date, answer.healthy) == (False, True)


SICK = [
    (status(containers=WELL[:-1]), "monitor is not there"),
    (status(containers=(*WELL[:-1], container("monitor", "exited", "none"))), "monitor is exited"),
    (
        status(containers=(WELL[0], container("executor", health="unhealthy"), WELL[2])),
        "executor is running, unhealthy",
    ),
    (status(containers=(WELL[0], container("executor", health="starting"), WELL[2])), "executor is running, starting"),
    (status(row=None), "not registered at miner-1"),
    (status(row=replace(ROW, validator="5other")), "registered for 5other"),
    (status(row=replace(ROW, port=8002)), "not registered at miner-1"),
    (status(row=replace(ROW, price=0.5), host=LIUM), "registered for 0.5, the inventory says 0.7"),
    (status(host=LIUM), "registered for None, the inventory says 0.7"),
    (status(containers=None, errors=("no Docker",)), "no Docker"),
]

# A price of null is no wish.
WELL_IN_LIUM = [
    status(row=replace(ROW, price=0.7), host=LIUM),
    status(row=replace(ROW, price=0.7), host=replace(LIUM, values={**LIUM.values, "executor_price": None})),
]


@pytest.mark.parametrize("answer", WELL_IN_LIUM)
def test_a_row_of_lium_is_compared_by_its_price(answer):
    assert answer.healthy


def test_a_row_whose_validator_the_miner_of_lium_does_not_accept_earns_nothing():
    strange = replace(ROW, validator="5other", price=0.7)
    answer = status(row=strange, host=LIUM)
    assert not answer.healthy
    assert answer.problems == (f"registered for 5other, which miner-1 does not accept: it accepts {VALIDATOR} only",)
    assert "assign apply" in answer.remedy
    assert "miner_default_validator" in answer.remedy
    chosen = replace(LIUM_MINER, values={**LIUM_MINER.values, "miner_default_validator": "5other"})
    assert status(row=strange, host=LIUM, miner=chosen).healthy, "the inventory told the miner of another one"
    other = status(row=replace(ROW, price=0.7), host=LIUM, miner=chosen)
    assert other.problems == (f"registered for {VALIDATOR}, the inventory says 5other",)


@pytest.mark.parametrize(("answer", "problem"), SICK)
def test_what_is_wrong_is_said(answer, problem):
    assert not answer.healthy
    assert problem in "; ".join(answer.problems)


def test_a_container_that_lost_its_gpus_is_told_with_what_to_do():
    lost = replace(container("executor", health="unhealthy"), complaint="NVML: Unknown Error; connection refused")
    answer = status(containers=(WELL[0], lost, WELL[2]))
    assert answer.problems == ("executor is running, unhealthy (NVML: Unknown Error; connection refused)",)
    assert "celium-ops deploy` restarts it" in answer.remedy, "not what the container's own words would ask for"


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("[Error] failed initializing subtensor", "miner_chain_endpoint"),
        ("is not registered on netuid", "btcli subnet register"),
    ],
)
def test_a_miner_that_cannot_use_the_chain_is_not_healthy(said, remedy):
    seen = tuple(replace(container(service), name=f"miner-{service}-1") for service in SERVICES["miner"])
    answer = judge(FLEET, MINER, Sight(True, {}, seen, registry=[], chain=said), {}, {})
    assert (answer.healthy, answer.problems) == (False, (f"the miner cannot use the chain: its log says {said}",))
    assert remedy in answer.remedy


SEEN = {"environments": {}, "containers": [], "rentals": None, "registry": [], "record": None, "record_error": None,
        "errors": []}  # fmt: skip


@pytest.mark.parametrize(
    ("chain", "believed"),
    [("[sync] Miner sync failed", True), (None, False), (7, False), ("\x1b[2J", False), ("x" * 81, False)],
)
def test_what_a_host_says_of_its_chain_is_checked(chain, believed):
    assert _seen({**SEEN, "chain": chain}).chain == (chain if believed else None)


def test_a_miner_of_lium_that_can_remove_no_row_is_told_so_and_is_not_sick():
    values = {"celium_dialect": "lium", "celium_network": "ws://192.0.2.9:9944"}
    seen = tuple(replace(container(service), name=f"miner-{service}-1") for service in SERVICES["miner"])

    def told(**more):
        host = replace(MINER, values={**values, **more})
        return judge(FLEET, host, Sight(True, {}, seen, registry=[]), {}, {})

    answer = told()
    assert (answer.healthy, answer.problems) == (True, ())
    assert "removes no row" in answer.warnings[0]
    assert "miner_evm_rpc_url" in answer.remedy
    for change in (
        {"celium_network": "finney"},
        {"miner_evm_rpc_url": "http://192.0.2.9:9944"},
        {"celium_dialect": "celium"},
    ):
        assert (told(**change).warnings, told(**change).remedy) == ((), None)


def test_a_miner_that_cannot_be_asked_leaves_the_registration_unknown():
    answer = status(registries={})
    assert (answer.healthy, answer.registered) == (True, None)


def test_a_validator_is_healthy_when_all_its_services_are():
    validator = Host("validator-1", "validator", Connection("192.0.2.8"), {})
    seen = [replace(container(service), name=f"validator-{service}-1") for service in SERVICES["validator"]]
    assert judge(FLEET, validator, Sight(True, {}, tuple(seen)), {}, {}).healthy
    answer = judge(FLEET, validator, Sight(True, {}, tuple(one for one in seen if one.service != "redis")), {}, {})
    assert (answer.healthy, answer.registered, answer.problems) == (False, None, ("redis is not there",))


def test_a_host_that_does_not_answer_is_neither_reachable_nor_healthy():
    answer = judge(FLEET, HOST, Sight(False, errors=("Connection refused",)), {}, ENVIRONMENT)
    assert (answer.reachable, answer.healthy, answer.problems) == (False, False, ("Connection refused",))
