"""When a host counts as healthy."""

from dataclasses import replace
from hashlib import sha1
from pathlib import Path

import pytest

from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.registry.rows import Registration
from celium_ops.remote.probe import Container, Sight
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
ROW = Registration("u", "192.0.2.9", 8001, VALIDATOR)
MINER = Host("miner-1", "miner", Connection("192.0.2.1"), {})
FLEET = Fleet(Path("fleet.yml"), {"miner-1": MINER, "gpu-1": HOST})


ENVIRONMENT = {".env": "A=1\n", "db.env": "B=2\n"}


def container(service, state="running", health="healthy", outdated=False):
    started = "2026-11-20T10:00:00Z"
    return Container(f"executor-{service}-1", service, "image", "sha256:0", state, health, started, outdated)


WELL = tuple(container(service) for service in SERVICES["executor"])


def status(containers=WELL, row=ROW, host=HOST, registries=None, **sight):
    known = {"miner-1": {(row.address, row.port): row} if row else {}} if registries is None else registries
    on_host = {
        name: sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in ENVIRONMENT.items()
    } | sight.pop("changed", {})
    return judge(FLEET, host, Sight(True, on_host, containers, **sight), known, ENVIRONMENT)


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

# The miner's one validator is not the executor's business, and a price of null is no wish.
WELL_IN_LIUM = [
    status(row=replace(ROW, validator="5default", price=0.7), host=LIUM),
    status(row=replace(ROW, price=0.7), host=replace(LIUM, values={**LIUM.values, "executor_price": None})),
]


@pytest.mark.parametrize("answer", WELL_IN_LIUM)
def test_a_row_of_lium_is_compared_by_its_price(answer):
    assert answer.healthy


@pytest.mark.parametrize(("answer", "problem"), SICK)
def test_what_is_wrong_is_said(answer, problem):
    assert not answer.healthy
    assert problem in "; ".join(answer.problems)


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
