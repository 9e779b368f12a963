"""Preflight on real hosts: damaged as operators find them, and diagnosed; nothing is left of it on any host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fleet import assert_only, broken
from tampering import keys

ROOT = Path(__file__).parents[2]
HOST = "executor-1"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"


@pytest.fixture(scope="module")
def fleet(deployed):
    return deployed


def looked(fleet, *arguments):
    """Look; the answer has the hosts ``by_name``, and of each the checks that do not pass by their names."""
    answer = fleet.run_json("preflight", *arguments)
    hosts = {host["name"]: host for host in answer["hosts"]}
    for host in hosts.values():
        host["bad"] = {check["id"]: check for check in host["checks"] if check["status"] not in ("pass", "skipped")}
    return {**answer, "by_name": hosts}


@pytest.fixture(scope="module")
def usual(fleet):
    """Return what is not well with the hosts of a lab anyway."""
    return {name: set(host["bad"]) for name, host in looked(fleet)["by_name"].items()}


def news(fleet, usual, host=HOST):
    """Return what is not well with a host beside that."""
    bad = looked(fleet, "--limit", host)["by_name"][host]["bad"]
    return {id_: check for id_, check in bad.items() if id_ not in usual[host]}


def test_a_fleet_that_is_well_is_fit_and_nothing_is_left(fleet):
    before = fleet.started()
    answer = looked(fleet)
    assert (answer["rc"], answer["ok"]) == (0, True), [host["bad"] for host in answer["hosts"]]
    assert set(answer["by_name"]) == set(fleet.names)
    executor = {check["id"]: check for check in answer["by_name"][HOST]["checks"]}
    assert {executor[f"ports.{way}"]["status"] for way in ("host", "published", "service")} == {"pass"}
    assert "5 of 5 ports" in executor["ports.published"]["message"]
    assert fleet.started() == before
    assert fleet.on(HOST, "docker ps -aq --filter label=org.celium-ops.preflight; pgrep -f '[l]istening' || true") == ""


# What is done to the host, how it is undone, and what preflight says then. None of it disturbs another.
DAMAGES = [
    ("mv /dev/net/tun /dev/net/away", "mv /dev/net/away /dev/net/tun", "host.tun"),
    ("touch /var/run/reboot-required", "rm /var/run/reboot-required", "host.reboot"),
    (
        "mv /etc/docker/daemon.json /etc/docker/away; mkdir /etc/docker/daemon.json",
        "rmdir /etc/docker/daemon.json; mv /etc/docker/away /etc/docker/daemon.json",
        "docker.configuration",
    ),
    (
        """echo 'APT::Periodic::Unattended-Upgrade "1";' > /etc/apt/apt.conf.d/99test; apt-mark unhold docker.io""",
        "rm /etc/apt/apt.conf.d/99test; apt-mark hold docker.io",
        "host.upgrades",
    ),
    ("chmod 644 /opt/celium/executor/.env", "chmod 600 /opt/celium/executor/.env", "security.modes"),
    (
        "mkdir -p /root/.bittensor/wallets/w; touch /root/.bittensor/wallets/w/coldkey",
        "rm -r /root/.bittensor/wallets/w",
        "security.coldkey",
    ),
    ("docker run --name container_gone --entrypoint true $IMAGE", "docker rm container_gone", "gpu.leftovers"),
    (
        "docker run -d --name foreign -p 8432:5432 -v /var/run/docker.sock:/s --entrypoint sleep $IMAGE 600",
        "docker rm -f foreign",
        "security.database",
    ),
    ("true", "true", "security.socket"),  # of the same container
    (
        "docker tag $IMAGE containrrr/watchtower:1.7.1; docker create --name watchtower containrrr/watchtower:1.7.1",
        "docker rm watchtower; docker rmi containrrr/watchtower:1.7.1",
        "docker.watchtower",
    ),
    (
        "iptables -I INPUT -p tcp --dport 20000:65535 -j REJECT",
        "iptables -D INPUT -p tcp --dport 20000:65535 -j REJECT",
        "ports.host",
    ),
    (
        "iptables -I DOCKER-USER -p tcp --dport 20000:65535 -j DROP",
        "iptables -D DOCKER-USER -p tcp --dport 20000:65535 -j DROP",
        "ports.published",
    ),
    (
        "iptables -I DOCKER-USER -p tcp --dport 8001 -j DROP",
        "iptables -D DOCKER-USER -p tcp --dport 8001 -j DROP",
        "ports.service",
    ),
]


def test_each_damage_is_diagnosed_with_its_remedy(fleet, usual):
    image = fleet.on(HOST, "docker inspect -f '{{.Config.Image}}' executor-executor-1")
    breaks, repairs, _ = zip(*DAMAGES, strict=True)
    with broken(fleet, HOST, f"set -e; IMAGE={image}; " + "\n".join(breaks), "\n".join(repairs)):
        found = news(fleet, usual)
        assert set(found) == {id_ for _, _, id_ in DAMAGES}
        assert all(check["remedy"] for check in found.values())
        assert found["ports.host"]["code"] == "PORT_VERIFY_FAILED"
        assert "foreign" in found["security.database"]["message"]
    assert news(fleet, usual) == {}


# What is done to the host, and what preflight says of it; a deploy is all that undoes it.
CURABLE = [
    ("chmod 644 /opt/celium/executor/.env /opt/celium/executor/db.env", "security.modes"),
    (
        """echo 'APT::Periodic::Unattended-Upgrade "1";' > /etc/apt/apt.conf.d/99test; apt-mark unhold docker.io""",
        "host.upgrades",
    ),
    (keys("d['live-restore'] = False") + "; systemctl reload docker", "docker.live_restore"),
    ("docker stop executor-executor-1", "ports.service"),
]


def test_a_deploy_cures_what_it_can_and_ends_no_container(fleet, usual):
    others = "docker inspect -f '{{.State.StartedAt}}' executor-db-1"
    before = fleet.on(HOST, others)
    with broken(fleet, HOST, "; ".join(script for script, _ in CURABLE), "rm -f /etc/apt/apt.conf.d/99test"):
        assert set(news(fleet, usual)) == {id_ for _, id_ in CURABLE}
        assert fleet.deploy("--limit", HOST)["ok"]
        assert news(fleet, usual) == {}
    assert fleet.on(HOST, others) == before, "Docker read its file anew, and nothing ended with it"


def test_a_folder_in_the_place_of_a_file_is_cured_unless_something_is_in_it(fleet, usual):
    with broken(fleet, HOST, "rm /etc/docker/daemon.json; mkdir /etc/docker/daemon.json", "true"):
        fleet.on(HOST, "touch /etc/docker/daemon.json/mine")
        assert_only(fleet.deploy("--limit", HOST), HOST, "/etc/docker/daemon.json is a folder that holds something")
        fleet.on(HOST, "rm /etc/docker/daemon.json/mine")
        assert set(news(fleet, usual)) == {"docker.configuration"}
        assert fleet.deploy("--limit", HOST)["ok"]
        assert news(fleet, usual) == {}


def test_docker_that_does_not_answer_and_a_port_that_somebody_has(fleet, usual):
    repair = "mv /run/away /run/docker.sock"
    with broken(fleet, HOST, "mv /run/docker.sock /run/away", repair):
        found = news(fleet, usual)
        assert "systemctl status docker" in found["docker.engine"]["remedy"]
    squat = "docker stop executor-executor-1; systemd-run --unit squat python3 -m http.server 8001"
    with broken(fleet, HOST, squat, "systemctl stop squat; docker start executor-executor-1"):
        found = news(fleet, usual)
        assert "port 8001 is taken by python3" in found["ports.free"]["message"]


def test_something_that_is_preloaded(fleet, usual):
    # Alone, as Docker itself stumbles over what the loader says.
    with broken(fleet, HOST, "echo /lib/no.so > /etc/ld.so.preload", "rm /etc/ld.so.preload"):
        assert news(fleet, usual)["host.preload"]["code"] == "SCRAPE_FAILED"


def test_a_rented_host_is_looked_at_without_opening_anything(fleet):
    image = fleet.on(HOST, "docker inspect -f '{{.Config.Image}}' executor-executor-1")
    rent = f"docker run -d --name pod_rented --entrypoint sleep {image} 600"
    with broken(fleet, HOST, rent, "docker rm -f pod_rented"):
        host = looked(fleet, "--limit", HOST)["by_name"][HOST]
    assert host["rented"] is True
    assert not {"ports.host", "ports.published"} & {check["id"] for check in host["checks"]}


def test_a_dead_host_is_named_and_the_others_are_looked_at(fleet):
    subprocess.run(["docker", "pause", fleet.lab.docker_name("executor-2")], check=True, capture_output=True)
    try:
        answer = looked(fleet)
    finally:
        subprocess.run(["docker", "unpause", fleet.lab.docker_name("executor-2")], check=True, capture_output=True)
    dead = answer["by_name"].pop("executor-2")
    assert (answer["rc"], dead["reachable"], set(dead["bad"])) == (1, False, {"host.reach"})
    assert all(host["ok"] for host in answer["by_name"].values())


def test_the_validator_is_predicted_from_what_the_driver_says(fleet, tmp_path):
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "integration" / "nvml_fake.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    for host in ("executor-1", "executor-2"):
        fleet.lab.pipe(host, f"cat > {LIBRARY}", library.read_bytes())
    try:
        required = {"executor_gpu_proof": "required"}
        with fleet.variables("executor-1", **required), fleet.variables("executor-2", **required):
            answer = looked(fleet, "--limit", "executor-1,executor-2")
    finally:
        for host in ("executor-1", "executor-2"):
            fleet.on(host, f"rm {LIBRARY}")
    host = answer["by_name"]["executor-1"]
    assert (answer["rc"], host["prediction"]["verdict"], host["prediction"]["ruleset"]) == (1, "reject", "2025-08")
    codes = {reason["code"] for reason in host["prediction"]["reasons"]}
    assert codes == {"NVML_DRIVER_UNKNOWN"}, "the rules of 2025-08 know no driver of branch 580"
    facts = host["prediction"]["facts"]
    assert (facts["host"]["driver"], facts["host"]["gpu_count"], facts["host"]["ports_open"]) == ("580.95.05", 8, 10)
    assert facts["cards"][3]["name"] == "NVIDIA H200"
    assert host["bad"]["fleet.cards"]["code"] == "EXECUTOR_DUPLICATE"
    assert host["bad"]["gpu.runtime"]["status"] == "fail"
