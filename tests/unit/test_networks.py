"""Which addresses of containers hide what a host has a route to: the same eyes for the role and for preflight."""

import ipaddress
import json

import pytest
from ansible_collections.celium.ops.plugins.filter.networks import collision_free, collisions, docker_networks
from ansible_collections.celium.ops.plugins.module_utils import networks
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.fleet.contract import computed_variables
from celium_ops.fleet.values import check

ROLE = computed_variables("nvidia_docker")
DEFAULT = {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0", "flags": []}
UPSTREAM = [{"base": "172.31.0.0/16", "size": 24}]


def route(dst, dev="eth0"):
    return {"dst": dst, "dev": dev, "protocol": "kernel", "scope": "link", "flags": []}


# What ``ip -json -4 route`` shows of a host, and what a pool of upstream's hides there.
ROUTES = [
    ([DEFAULT], None),
    (None, None),
    ([DEFAULT, route("172.31.16.0/20")], "172.31.16.0/20 (eth0)"),  # in AWS's default VPC
    ([route("172.31.0.2")], "172.31.0.2/32 (eth0)"),
    ([{"type": "blackhole", "dst": "172.16.0.0/12", "flags": []}], "172.16.0.0/12"),
    ([route("10.0.0.0/8"), route("172.30.0.0/16")], None),
    ([route("172.31.0.0/24", "docker0"), route("172.31.1.0/24", f"br-{'0a' * 6}")], None),
    ([route("172.31.0.0/24", "docker_gwbridge"), route("172.31.2.0/24", "mine")], None),
    ([route("172.31.1.0/24", "br-lan")], "172.31.1.0/24 (br-lan)"),
    ([route("172.31.1.0/24", f"br-{'0a' * 6}.1")], f"172.31.1.0/24 (br-{'0a' * 6}.1)"),
    # A VPN that takes everything (redirect-gateway def1), in two halves.
    ([route("0.0.0.0/1", "tun0"), route("128.0.0.0/1", "tun0")], None),
]


@pytest.mark.parametrize(("routes", "what"), ROUTES)
def test_a_pool_hides_what_lies_in_it_or_around_it(routes, what):
    expected = [f"172.31.0.0/16, but this host has a route to {what}"] if what else []
    assert collisions(UPSTREAM, routes, ["mine"]) == expected
    assert networks.hidden("172.31.0.1/16", routes, ["mine"]) == what, "a bip is an address with its network"


def test_docker_takes_what_it_says():
    own = ROLE["_nvidia_docker_own_pools"]
    for address, taken in (("172.16.9.0/24", False), ("172.31.9.0/24", True), ("192.168.1.0/24", True)):
        assert bool(collisions(own, [route(address)])) == taken
    assert not collisions(own, [route("10.1.0.0/16")])


def test_the_candidates_are_pools_as_an_operator_may_give_them():
    candidates = ROLE["_nvidia_docker_candidates"]
    assert check("pools", candidates) == candidates


IP = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
NETWORK = st.builds(lambda ip, bits: ipaddress.IPv4Network((ip, bits), strict=False), IP, st.integers(8, 32))
DEVICE = st.sampled_from(["eth0", "docker0", "wg0", f"br-{'0' * 12}"])


@given(st.lists(st.tuples(NETWORK, DEVICE), max_size=6))
def test_what_is_chosen_hides_nothing(found):
    routes = [route(str(network).removesuffix("/32"), device) for network, device in found]
    free = collision_free(ROLE["_nvidia_docker_candidates"], routes)
    assert not collisions(free, routes)
    for pool in free:
        base = ipaddress.IPv4Network(pool["base"])
        assert not any(base.overlaps(network) for network, device in found if device != "docker0")
    for pool in [pool for pool in ROLE["_nvidia_docker_candidates"] if pool not in free]:
        assert any(ipaddress.IPv4Network(pool["base"]).overlaps(network) for network, _ in found)


def test_the_bridge_gets_the_first_part_of_the_first_pool():
    pools = [{"base": "10.200.0.0/16", "size": "24"}, {"base": "172.24.0.0/16", "size": 20}]
    assert docker_networks(pools) == {
        "bip": "10.200.0.1/24",
        "default-address-pools": [{"base": "10.200.0.0/16", "size": 24}, {"base": "172.24.0.0/16", "size": 20}],
    }
    assert docker_networks([]) == {}


def network(name, subnet, driver="bridge", **options):
    ipam = {"Config": [{"Subnet": subnet}] if subnet else None}
    return {"Name": name, "Driver": driver, "IPAM": ipam, "Options": options or None}


def test_preflight_sees_networks_and_the_file(on_host, monkeypatch, tmp_path):
    present = [
        network("bridge", "172.17.0.0/16"),
        network("host", None, driver="host"),
        network("lan", "10.0.0.0/24", driver="macvlan"),
        network("six", "fd00::/64"),
        network("stack", "10.0.0.128/25"),
        network("named", "10.2.0.0/24", **{"com.docker.network.bridge.name": "mine"}),
    ]
    routes = [DEFAULT, route("10.0.0.0/24"), route("10.2.0.0/24", "mine"), route("172.17.0.0/16", "docker0")]
    monkeypatch.setattr(on_host, "docker_says", {"/networks": present}.__getitem__)
    monkeypatch.setattr(on_host, "_said", lambda *_: json.dumps(routes))
    monkeypatch.setattr(on_host, "_DAEMON", tmp_path / "daemon.json")
    assert on_host.networks({}) == {
        "networks": [
            {"name": "bridge", "subnet": "172.17.0.0/16", "hides": None},
            {"name": "stack", "subnet": "10.0.0.128/25", "hides": "10.0.0.0/24 (eth0)"},
            {"name": "named", "subnet": "10.2.0.0/24", "hides": None},
        ],
        "pools": [],
    }
    pools = [{"base": "10.0.0.0/16", "size": 24}, {"base": "fd00::/64", "size": 80}]
    for content, hidden in (
        ({"bip": "10.0.0.1/24", "default-address-pools": pools}, ["10.0.0.0/24 (eth0)"] * 2),
        ({"bip": "172.24.0.1/16"}, [None]),
        ([], []),
    ):
        (tmp_path / "daemon.json").write_text(json.dumps(content))
        assert [pool["hides"] for pool in on_host.networks({})["pools"]] == hidden
    monkeypatch.setattr(on_host, "_said", lambda *_: "")
    assert "networks" in on_host.survey({"gpus": False})["errors"]
