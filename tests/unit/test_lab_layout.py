"""Names, addresses and networks of a lab."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from celium_ops.base.errors import UsageError
from celium_ops.lab import layout
from celium_ops.lab.lab import wanted
from celium_ops.lab.layout import Host, Lab
from celium_ops.lab.network import conflict

DEMO = Lab("demo", IPv4Network("198.51.100.0/24"))
# A machine that lives in a documentation range itself: eth0 has 192.0.2.0/24, docker0 172.17.0.0/16.
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("group", "number", "name", "address", "suite"),
    [
        ("miners", 1, "miner-1", "198.51.100.11", "noble"),
        ("miners", 2, "miner-2", "198.51.100.12", "noble"),
        ("validators", 1, "validator-1", "198.51.100.71", "noble"),
        ("executors", 1, "executor-1", "198.51.100.101", "noble"),
        ("executors", 2, "executor-2", "198.51.100.102", "trixie"),
        ("executors", 5, "executor-5", "198.51.100.105", "trixie"),
        ("executors", 150, "executor-150", "198.51.100.250", "noble"),
    ],
)
def test_a_host_has_a_fixed_place(group, number, name, address, suite):
    host = Host(DEMO, group, number)
    assert (host.name, host.address, host.suite) == (name, address, suite)
    assert host.container == f"celium-lab-demo-{name}"


def test_groups_never_share_an_address():
    full = DEMO.hosts({group.name: group.limit for group in layout.GROUPS.values()})
    addresses = {host.address for host in full} | {DEMO.registry_ip}
    assert len(addresses) == len(full) + 1
    assert all(IPv4Address(address) in DEMO.subnet for address in addresses)


@pytest.mark.parametrize("counts", [{"executors": 151}, {"miners": 61}, {"miners": -1}])
def test_a_count_out_of_range_is_wrong_usage(counts):
    with pytest.raises(UsageError, match="a lab has 0 to"):
        layout.check_counts(counts)


@pytest.mark.parametrize("name", ["Demo", "-x", "a b", "x" * 21, "a/b", "ä"])
def test_a_lab_name_must_fit_a_container(monkeypatch, name):
    monkeypatch.setenv("CELIUM_LAB", name)
    with pytest.raises(UsageError, match="is not a lab name"):
        layout.lab_name()


def test_the_lab_is_named_by_the_environment(monkeypatch):
    monkeypatch.delenv("CELIUM_LAB", raising=False)
    assert layout.lab_name() == "demo"
    monkeypatch.setenv("CELIUM_LAB", "mine-2")
    assert layout.lab_name() == "mine-2"


def test_known_labs_prefer_their_range_and_all_have_others():
    assert layout.subnets("demo")[0] == IPv4Network("198.51.100.0/24")
    assert layout.subnets("tests")[0] == IPv4Network("203.0.113.0/24")
    assert layout.subnets("mine")[0] != layout.subnets("yours")[0]
    for name in ("demo", "tests", "mine"):
        assert len(set(layout.subnets(name))) == len(layout.subnets(name)) >= 8


@pytest.mark.parametrize(
    ("subnet", "taken", "why"),
    [
        ("198.51.100.0/24", {}, None),
        ("192.0.2.0/24", {}, "eth0 reaches it"),
        ("172.17.5.0/24", {}, "docker0 reaches it"),
        ("203.0.113.0/24", {"deb.debian.org": IPv4Address("203.0.113.80")}, "deb.debian.org is 203.0.113.80"),
        ("203.0.113.0/24", {"deb.debian.org": IPv4Address("151.101.2.132")}, None),
    ],
)
def test_a_network_the_machine_needs_is_not_taken(subnet, taken, why):
    assert conflict(IPv4Network(subnet), ROUTES, taken) == why


@pytest.mark.parametrize(
    ("known", "requested", "containers", "miners", "executors"),
    [
        ({}, {}, [], 1, 3),
        ({}, {"executors": 4}, [], 1, 4),
        ({"miners": 1, "executors": 4}, {}, [], 1, 4),
        ({"miners": 1, "executors": 4}, {"executors": 3}, ["celium-lab-demo-executor-1"], 1, 3),
        ({"miners": 1, "executors": 4}, {"executors": 3}, ["celium-lab-demo-executor-4"], 1, 4),
        ({}, {"miners": 0}, ["celium-lab-demo-registry"], 0, 3),
    ],
)
def test_up_only_adds(known, requested, containers, miners, executors):
    counts = wanted(known, requested, containers)
    assert (counts["miners"], counts["executors"], counts["validators"]) == (miners, executors, 1)
