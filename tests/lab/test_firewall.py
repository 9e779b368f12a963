"""The firewall of a host: what its role needs is open, the rest is closed, and nobody is locked out."""

from __future__ import annotations

import socket

import pytest
from fleet import broken, wait_for

HOST = "executor-1"
OFF = "systemctl disable --now celium-firewall; rm -rf /etc/celium /etc/systemd/system/celium-firewall.service"


@pytest.fixture(scope="module")
def fleet(deployed):
    """Give the fleet with a firewall on one host."""
    with deployed.variables(HOST, firewall_manage=True):
        answer = deployed.deploy("--limit", HOST)
        assert answer["ok"], answer
        yield deployed
        deployed.on(HOST, OFF)


def reached(fleet, port):
    try:
        with socket.create_connection((fleet.address(HOST), port), 2):
            return True
    except OSError:
        return False


def test_what_the_role_needs_is_open_and_the_rest_is_closed(fleet):
    image = fleet.on(HOST, "docker inspect -f '{{.Config.Image}}' executor-executor-1")
    serve = "python3 -m http.server"
    start = (
        f"systemd-run --unit other {serve} 9999; systemd-run --unit rented {serve} 45000;"
        f"docker run -d --name other -p 8432:5432 --entrypoint python3 {image} -m http.server 5432;"
        f"docker run -d --name rentable -p 45001:22 --entrypoint python3 {image} -m http.server 22"
    )
    stop = "systemctl stop other rented; docker rm -f other rentable"
    with broken(fleet, HOST, start, stop):
        wait_for(lambda: reached(fleet, 45000) and reached(fleet, 45001))
        assert fleet.on(HOST, "curl -s -o /dev/null -w '%{http_code}' localhost:9999 || true") in ("200", "")
        assert not reached(fleet, 9999), "a program of the host"
        assert not reached(fleet, 8432), "a container's port"
        fleet.on(HOST, "nft delete table inet celium")
        assert reached(fleet, 9999), "it was the firewall"
        assert reached(fleet, 8432)
        fleet.on(HOST, "systemctl restart celium-firewall")
        assert not reached(fleet, 9999), "as at the start of the host"
    answer = fleet.run_json("preflight", "--limit", HOST)
    ports = {check["status"] for check in answer["hosts"][0]["checks"] if check["id"].startswith("ports.")}
    assert ports == {"pass"}
    assert fleet.status()["by_name"][HOST]["healthy"]


TAMPERED = {
    ("firewall", "inet celium"): "nft add rule inet celium input tcp dport 1 accept",
    ("file", "/etc/celium/firewall.nft"): "echo '# x' >> /etc/celium/firewall.nft",
    ("file", "/run/celium-firewall"): "rm /run/celium-firewall",
    ("unit", "celium-firewall.service"): "systemctl -q disable celium-firewall",
}
STOPPED = {("firewall", "inet celium"): "systemctl stop celium-firewall"}


@pytest.mark.parametrize("tampered", [TAMPERED, STOPPED], ids=["tampered", "stopped"])
def test_who_tampers_with_it_is_found_out_and_it_is_put_back(fleet, tampered):
    look = "nft list table inet celium; systemctl is-active celium-firewall; systemctl is-enabled celium-firewall"
    before = fleet.on(HOST, look)
    fleet.on(HOST, "; ".join(tampered.values()))
    (host,) = fleet.run_json("plan", "--limit", HOST)["hosts"]
    assert tampered.keys() <= {(one["kind"], one["name"]) for one in host["drift"]}
    assert fleet.deploy("--limit", HOST)["ok"]
    assert fleet.on(HOST, look) == before


def test_rules_that_keep_us_out_are_taken_back(fleet):
    before = fleet.on(HOST, "nft list table inet celium")
    with fleet.variables(HOST, firewall_ssh_ports=[2222], firewall_undo_after=15):
        failed = fleet.deploy("--limit", HOST)["by_name"][HOST]
        assert failed["result"] in ("failed", "unreachable"), failed
        wait_for(lambda: fleet.on(HOST, "nft list table inet celium") == before, 40)
    assert fleet.status()["by_name"][HOST]["reachable"]
    assert fleet.deploy("--limit", HOST)["ok"]
    assert fleet.on(HOST, "nft list table inet celium") == before
