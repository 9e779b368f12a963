"""Which executors may be assigned, from a registry and what hosts show."""

import pytest

from celium_ops.fleet.model import Connection, Host
from celium_ops.registry.rows import Registration
from celium_ops.remote.probe import Container, Sight
from celium_ops.workflows.candidates import candidates, elsewhere, tenanted
from celium_ops.workflows.status import SERVICES

ENDPOINT = ("192.0.2.9", 8001)
VALUES = {"executor_address": "192.0.2.9", "executor_external_port": 8001, "executor_weight": 1}
HOST = Host("gpu-1", "executor", Connection("192.0.2.9"), VALUES)
ROW = Registration("u", *ENDPOINT, "hotkey-1")
WELL = tuple(
    Container(f"executor-{service}-1", service, "i", None, "running", "healthy", "2026", False)
    for service in SERVICES["executor"]
)


def found(row=ROW, host=HOST, containers=WELL, rentals=(), **more):
    registry = {ENDPOINT: row} if row else {}
    return candidates([host], registry, {"gpu-1": Sight(True, {}, containers, rentals)}, **more)


def test_a_registered_executor_may_move():
    (row,) = found().rows
    assert (row.executor, row.current, row.lock, row.pin, row.weight) == ("192.0.2.9:8001", "hotkey-1", None, None, 1)


LOCKS = [
    ({"rentals": ("pod_a", "pod_b")}, "rented (pod_a, pod_b)"),
    ({"rentals": None}, "cannot be asked whether it is rented"),
    ({"rentals": ("pod_a",), "even_if_rented": True}, None),
]


@pytest.mark.parametrize(("more", "lock"), LOCKS)
def test_what_keeps_it_where_it_is(more, lock):
    assert [row.lock for row in found(**more).rows] == [lock]


def test_a_row_without_a_host_stays_and_is_named():
    answer = candidates([], {ENDPOINT: ROW}, {})
    assert [(row.current, bool(row.lock)) for row in answer.rows] == [("hotkey-1", True)]
    assert answer.leftovers == ("192.0.2.9:8001",)


def test_a_new_executor_that_is_well_is_ready_and_its_pin_and_weight_count():
    host = Host("gpu-1", "executor", HOST.connection, {**VALUES, "executor_validator": "pin", "executor_weight": 8})
    (row,) = found(row=None, host=host, rentals=None).rows
    assert (row.current, row.lock, row.pin, row.weight) == (None, None, "pin", 8)


def test_one_that_another_miner_has_is_not_to_be_registered_twice():
    row = {"uuid": "u", "address": ENDPOINT[0], "port": ENDPOINT[1], "validator": "v"}
    host = Host("gpu-1", "executor", HOST.connection, {**VALUES, "executor_miner": "miner-2"})
    there, nothing, unknown = Sight(True, registry=[row]), Sight(True, registry=[]), Sight(False)
    found = elsewhere([host], {"miner-1": there, "miner-2": nothing, "miner-3": unknown})
    assert "still registered at miner-1" in found.pop("gpu-1")
    assert found == {}
    assert elsewhere([host], {"miner-1": nothing, "miner-2": there, "miner-3": unknown}) == {}


WAITING = [
    ({"containers": WELL[1:]}, HOST, "db is not there"),
    ({"containers": None}, HOST, "it shows no containers"),
    ({}, Host("gpu-1", "executor", HOST.connection, {**VALUES, "celium_dialect": "lium"}), "it has no executor_price"),
]


@pytest.mark.parametrize(("more", "host", "why"), WAITING)
def test_a_new_executor_that_is_not_ready_waits_and_the_reason_is_told(more, host, why):
    answer = found(row=None, host=host, **more)
    assert (answer.rows, list(answer.waiting)) == ((), ["gpu-1"])
    assert answer.waiting["gpu-1"].startswith(why)


@pytest.mark.parametrize(
    ("sight", "kept"),
    [
        (Sight(True, rentals=()), {}),
        (Sight(True, rentals=("pod_a",)), {"gpu-1": "gpu-1 rented (pod_a)"}),
        (Sight(False), {"gpu-1": "gpu-1 cannot be asked whether it is rented"}),
    ],
)
def test_a_tenant_keeps_what_he_pays_by(sight, kept):
    assert tenanted({"gpu-1": sight}) == kept
