"""The firewall of a host: what its role needs is open, the rest is closed, and nobody is locked out."""

from __future__ import annotations

import json
import shlex
from itertools import product

import pytest
from fleet import IMPATIENT, broken, wait_for

HOST, OTHER = "executor-1", "executor-2"
OFF = "systemctl disable --now celium-firewall; rm -rf /etc/celium /etc/systemd/system/celium-firewall.service"


@pytest.fixture(scope="module")
def fleet(deployed):
    """Give the fleet with a firewall on one host."""
    with deployed.variables(HOST, firewall_manage=True):
        answer = deployed.deploy("--limit", HOST)
        assert answer["ok"], answer
        yield deployed
        deployed.on(HOST, OFF)


PROBE = """
import socket, sys
for address in sys.argv[1].split():
    for port in sys.argv[2].split():
        try:
            socket.create_connection((address, port), 0.7).close()
            print(address, port)
        except OSError:
            pass
"""


def reached(fleet, addresses, ports):
    """Return to which ports of which addresses another host can connect."""
    words = [shlex.quote(" ".join(map(str, some))) for some in (addresses, ports)]
    lines = fleet.on(OTHER, f"python3 -c {shlex.quote(PROBE)} {' '.join(words)}").splitlines()
    return {(address, int(port)) for address, port in map(str.split, lines)}


@pytest.fixture
def addresses(fleet):
    """Give the host's address, and one of IPv6 for it and the other host, as Docker turned that off in the lab."""
    switch = "sysctl -qw net.ipv6.conf.all.disable_ipv6={0} net.ipv6.conf.lo.disable_ipv6={0}"
    # Docker publishes on IPv6 when it has found it at its start. Containers that start anew say soon how they are.
    again = "systemctl reset-failed docker; systemctl restart docker; docker ps -q | xargs docker restart"
    for host, address in ((HOST, "fd51::1"), (OTHER, "fd51::2")):
        fleet.on(host, f"{switch.format(0)}; ip -6 addr add {address}/64 dev eth0 nodad")
    fleet.on(HOST, f"{again}; docker network create --ipv6 --subnet fd52::/64 six")
    yield [fleet.address(HOST), "fd51::1"]
    fleet.on(HOST, "docker network rm six")
    for host in (HOST, OTHER):
        fleet.on(host, switch.format(1))
    fleet.on(HOST, again)
    wait_for(lambda: fleet.status()["by_name"][HOST]["healthy"])


def test_what_the_role_needs_is_open_and_the_rest_is_closed(fleet, addresses):
    image = fleet.on(HOST, "docker inspect -f '{{.Config.Image}}' executor-executor-1")
    serve = "python3 -m http.server --bind ::"
    # A published port of IPv6 is Docker's proxy's, or, where the network of its container has IPv6, the kernel's.
    run = f"docker run -d --name {{}} --entrypoint python3 {{}} {image} -m http.server --bind :: 22"
    start = (
        f"systemd-run --unit other {serve} 9999; systemd-run --unit rented {serve} 45000;"
        f"{run.format('other', '-p 8432:22')}; {run.format('other6', '-p 8433:22 --network six')};"
        f"{run.format('rentable', '-p 45001:22')}; {run.format('rentable6', '-p 45002:22 --network six')}"
    )
    stop = "systemctl stop other rented; docker rm -f other other6 rentable rentable6"
    needed, others = (45000, 45001, 45002), (9999, 8432, 8433)
    with broken(fleet, HOST, start, stop):
        wait_for(lambda: reached(fleet, addresses, needed) == set(product(addresses, needed)))
        assert reached(fleet, addresses, others) == set()
        fleet.on(HOST, "nft delete table inet celium")
        assert reached(fleet, addresses, others) == set(product(addresses, others)), "it was the firewall"
        fleet.on(HOST, "systemctl restart celium-firewall")
        assert reached(fleet, addresses, others) == set(), "as at the start of the host"
    answer = fleet.run_json("preflight", "--limit", HOST)
    ports = {check["status"] for check in answer["hosts"][0]["checks"] if check["id"].startswith("ports.")}
    assert ports == {"pass"}
    wait_for(lambda: fleet.status()["by_name"][HOST]["healthy"])


TAMPERED = {
    ("firewall", "inet celium"): "nft add rule inet celium input tcp dport 1 accept",
    ("file", "/etc/celium/firewall.nft"): "echo '# x' >> /etc/celium/firewall.nft",
    ("file", "/etc/celium/firewall.nft.kept"): "echo '# x' >> /etc/celium/firewall.nft.kept",
    ("file", "/run/celium-firewall"): "rm /run/celium-firewall",
    ("unit", "celium-firewall.service"): "systemctl -q disable celium-firewall",
}
STOPPED = {("firewall", "inet celium"): "systemctl stop celium-firewall"}
BY_HAND = {
    ("unit", "celium-firewall.service"): "systemctl stop celium-firewall; nft -f /etc/celium/firewall.nft",
}


@pytest.mark.parametrize("tampered", [TAMPERED, STOPPED, BY_HAND], ids=["tampered", "stopped", "by hand"])
def test_who_tampers_with_it_is_found_out_and_it_is_put_back(fleet, tampered):
    look = "nft list table inet celium; systemctl is-active celium-firewall; systemctl is-enabled celium-firewall"
    before = fleet.on(HOST, look)
    fleet.on(HOST, "; ".join(tampered.values()))
    (host,) = fleet.run_json("plan", "--limit", HOST)["hosts"]
    assert tampered.keys() <= {(one["kind"], one["name"]) for one in host["drift"]}
    assert fleet.deploy("--limit", HOST)["ok"]
    assert fleet.on(HOST, look) == before


def test_rules_that_keep_us_out_are_taken_back(fleet, monkeypatch):
    for name, value in IMPATIENT.items():
        monkeypatch.setitem(fleet.lab.env, name, value)
    before = fleet.on(HOST, "nft list table inet celium")
    with fleet.variables(HOST, firewall_ssh_ports=[2222], firewall_undo_after=15):
        failed = fleet.deploy("--limit", HOST)["by_name"][HOST]
        assert (failed["result"], "nobody could connect" in failed["error"]) == ("failed", True), failed
        wait_for(lambda: fleet.on(HOST, "nft list table inet celium") == before, 40)
        fleet.on(HOST, "systemctl restart celium-firewall")
        assert fleet.on(HOST, "nft list table inet celium") == before, "as at the start of the host"
    assert fleet.status()["by_name"][HOST]["reachable"]
    assert fleet.deploy("--limit", HOST)["ok"]
    assert fleet.on(HOST, "nft list table inet celium") == before


def test_what_comes_through_any_rules_loads_none_that_close_ssh(fleet):
    before = fleet.on(HOST, "nft list table inet celium; cat /etc/celium/firewall.nft")
    docker = {"ansible_connection": "community.docker.docker", "ansible_host": fleet.lab.docker_name(HOST)}
    with fleet.variables(HOST, firewall_ssh_ports=[2222]):
        said = fleet.play("executor", "--limit", HOST, "-e", json.dumps(docker))[HOST]["msg"]
    assert "would close port 22 of this host's SSH server" in said
    assert fleet.on(HOST, "nft list table inet celium; cat /etc/celium/firewall.nft") == before


def test_an_active_ufw_is_told_to_let_the_same_in(fleet):
    # One of its own rules and nothing else lets an operator in.
    start = (
        "apt-get -qq -y install ufw >/dev/null 2>&1; ufw allow 22/tcp >/dev/null; ufw --force enable >/dev/null;"
        "for port in 9999 45000; do systemd-run --unit at-$port python3 -m http.server $port; done"
    )
    stop = "systemctl stop at-9999 at-45000; ufw --force disable >/dev/null; apt-get -qq -y purge ufw >/dev/null 2>&1"
    look = [fleet.address(HOST)], (9999, 45000)
    with broken(fleet, HOST, start, stop):
        assert reached(fleet, *look) == set()
        assert fleet.run_json("plan", "--limit", HOST)["rc"] == 3, "nobody has told it yet"
        for tamper in ("true", "ufw delete allow 40000:65535/tcp"):
            fleet.on(HOST, tamper)
            assert reached(fleet, *look) == set()
            assert fleet.deploy("--limit", HOST)["ok"]
            assert reached(fleet, *look) == {(look[0][0], 45000)}
        assert "40000:65535/tcp (v6)" in fleet.on(HOST, "ufw status")
        again = fleet.deploy("--full", "--limit", HOST)["by_name"][HOST]
        assert again["changed"] == 0
