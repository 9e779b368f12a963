"""Preflight on real hosts: damaged as operators find them, and diagnosed; nothing is left of it on any host."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager
from pathlib import Path

import jsonschema
import pytest
from fleet import assert_only, broken, wait_for
from tampering import keys

from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal
from celium_ops.registry.rows import row_name

ROOT = Path(__file__).parents[2]
HOST = "executor-1"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
SCHEMA = json.loads((ROOT / "docs" / "preflight.schema.json").read_text())
LEFT = """
docker ps -aq --filter label=org.celium-ops.preflight
pgrep -f '[l]istening' || true
pgrep -f '[I]DLE = 120' || true
pgrep -f '[S]PARE = 10' || true
"""
"""Prints what is there of preflight: containers, and the programs that listen, try and carry."""


@pytest.fixture(scope="module")
def fleet(deployed):
    return deployed


def looked(fleet, *arguments):
    """Look; the answer has the hosts ``by_name``, and of each the checks that do not pass by their names."""
    answer = fleet.run_json("preflight", *arguments)
    jsonschema.validate({key: value for key, value in answer.items() if key not in ("rc", "stderr")}, SCHEMA)
    hosts = {host["name"]: host for host in answer["hosts"]}
    for host in hosts.values():
        host["bad"] = {check["id"]: check for check in host["checks"] if check["status"] not in ("pass", "skipped")}
    return {**answer, "by_name": hosts}


@pytest.fixture(scope="module")
def usual(fleet):
    """Return what is not well with the hosts of a lab anyway."""
    return {name: set(host["bad"]) for name, host in looked(fleet)["by_name"].items()}


def news(fleet, usual, *arguments, host=HOST):
    """Return what is not well with a host beside that."""
    bad = looked(fleet, "--limit", host, *arguments)["by_name"][host]["bad"]
    return {id_: check for id_, check in bad.items() if id_ not in usual[host]}


def test_a_fleet_that_is_well_is_fit_and_nothing_is_left(fleet):
    before = fleet.started()
    answer = looked(fleet)
    assert (answer["rc"], answer["ok"]) == (0, True), [host["bad"] for host in answer["hosts"]]
    assert set(answer["by_name"]) == set(fleet.names)
    executor = {check["id"]: check for check in answer["by_name"][HOST]["checks"]}
    assert answer["tried_from"] is None
    assert {executor[f"ports.{way}"]["status"] for way in ("host", "published", "service")} == {"pass"}
    images = {
        name: check["status"] for name, host in answer["by_name"].items() for check in host["checks"]
        if check["id"] == "docker.images"
    }  # fmt: skip
    assert images == dict.fromkeys(fleet.names, "pass"), "a deploy has pulled all that its stack needs"
    assert "5 of 5 ports" in executor["ports.published"]["message"]
    assert fleet.started() == before
    assert fleet.on(HOST, LEFT) == ""


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


# Docker reads its file some time after it was told to.
READ = "timeout 30 sh -c 'until docker info -f {{.LiveRestoreEnabled}} | grep -q false; do sleep 0.1; done'"
# What is done to the host, and what preflight says of it; a deploy is all that undoes it.
CURABLE = [
    ("chmod 644 /opt/celium/executor/.env /opt/celium/executor/db.env", "security.modes"),
    (
        """echo 'APT::Periodic::Unattended-Upgrade "1";' > /etc/apt/apt.conf.d/99test; apt-mark unhold docker.io""",
        "host.upgrades",
    ),
    ("docker rmi daturaai/compute-subnet-executor:latest", "docker.images.name"),
    (keys("d['live-restore'] = False") + f"; systemctl reload docker; {READ}", "docker.live_restore"),
    (
        "rm /etc/docker/daemon.json; mkdir /etc/docker/daemon.json; touch /etc/docker/daemon.json/mine",
        "docker.configuration",
    ),
    ("docker stop executor-executor-1", "ports.service"),
]


def test_a_deploy_cures_what_it_can_and_ends_no_container(fleet, usual):
    others = "docker inspect -f '{{.State.StartedAt}}' executor-db-1"
    before = fleet.on(HOST, others)
    with broken(fleet, HOST, "; ".join(script for script, _ in CURABLE), "rm -f /etc/apt/apt.conf.d/99test"):
        assert set(news(fleet, usual)) == {id_ for _, id_ in CURABLE}
        refused = fleet.deploy("--limit", HOST)
        assert_only(refused, HOST, "/etc/docker/daemon.json is a folder that holds something")
        fleet.on(HOST, "rm /etc/docker/daemon.json/mine")
        assert fleet.deploy("--limit", HOST)["ok"]
        assert news(fleet, usual) == {}
    assert fleet.on(HOST, others) == before, "Docker read its file anew, and nothing ended with it"


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
    with fleet.lab.paused("executor-2"):
        answer = looked(fleet)
    dead = answer["by_name"].pop("executor-2")
    assert (answer["rc"], dead["reachable"], set(dead["bad"])) == (1, False, {"host.reach"})
    assert all(host["ok"] for host in answer["by_name"].values())


def drops(fleet, source):
    """Return what makes the firewall of a host drop connections from another to renters' ports and to the API."""
    address = fleet.address(source)
    rules = [("INPUT", "20000:65535"), ("DOCKER-USER", "20000:65535"), ("DOCKER-USER", "8001")]
    return [
        "\n".join(f"iptables {flag} {chain} -s {address} -p tcp --dport {ports} -j DROP" for chain, ports in rules)
        for flag in ("-I", "-D")
    ]


def test_a_firewall_that_lets_us_in_and_not_the_miner_is_seen_from_there(fleet, usual):
    breaks, repairs = drops(fleet, "miner-1")
    with broken(fleet, HOST, breaks, repairs):
        assert news(fleet, usual) == {}, "from here all is well"
        began = time.monotonic()
        answer = looked(fleet, "--limit", HOST, "--from", "miner-1")
        assert time.monotonic() - began < 40
        bad = answer["by_name"][HOST]["bad"]
        assert (answer["rc"], answer["tried_from"]) == (1, "miner-1")
        assert set(bad) - usual[HOST] == {"ports.host", "ports.published", "ports.service"}
        assert bad["ports.host"]["code"] == bad["ports.published"]["code"] == "PORT_VERIFY_FAILED"
        assert "0 of 5 ports" in bad["ports.host"]["message"]
        assert all("from miner-1" in bad[id_]["message"] for id_ in set(bad) - usual[HOST])
    answer = looked(fleet, "--from", "miner-1")
    assert (answer["rc"], answer["ok"]) == (0, True), [host["bad"] for host in answer["hosts"]]
    executor = {check["id"]: check for check in answer["by_name"][HOST]["checks"]}
    assert {executor[f"ports.{way}"]["status"] for way in ("host", "published", "service")} == {"pass"}
    own = [check for check in answer["by_name"]["miner-1"]["checks"] if check["id"] == "ports.service"]
    assert [check["status"] for check in own] == ["skipped"], "no host is tried from itself"
    assert {host: fleet.on(host, LEFT) for host in (HOST, "miner-1")} == {HOST: "", "miner-1": ""}


def test_a_host_that_is_none_or_dead_cannot_be_tried_from(fleet, usual):
    wrong = fleet.run_json("preflight", "--from", "miner-9")
    assert (wrong["rc"], wrong["error"]["code"]) == (2, "no-such-host")
    assert "miner-1" in wrong["error"]["message"]
    with fleet.lab.paused("miner-1"):
        found = news(fleet, usual, "--from", "miner-1")
    assert {id_: check["status"] for id_, check in found.items()} == dict.fromkeys(
        ("ports.host", "ports.published", "ports.service"), "unknown"
    )
    assert all("miner-1" in check["message"] for check in found.values())


def test_nothing_is_left_of_a_preflight_that_was_killed(fleet):
    breaks, repairs = drops(fleet, "miner-1")
    with broken(fleet, HOST, breaks, repairs):  # so that each try takes its whole time
        arguments = ("preflight", "--limit", HOST, "--from", "miner-1")
        killed = fleet.lab.start("-i", str(fleet.lab.inventory), *arguments)
        try:
            wait_for(lambda: fleet.on(HOST, "pgrep -f '[l]istening' || true"), 20)
        finally:
            killed.kill()
            killed.communicate()
        for host in (HOST, "miner-1"):
            wait_for(lambda host=host: fleet.on(host, LEFT) == "", 35)


def test_the_way_to_a_host_is_measured_only_when_asked_for(fleet):
    assert not {"network.down", "network.up"} & {
        check["id"] for check in looked(fleet, "--limit", HOST)["by_name"][HOST]["checks"]
    }
    began = time.monotonic()
    answer = looked(fleet, "--limit", HOST, "--bandwidth")
    assert time.monotonic() - began < 60
    rates = {check["id"]: check for check in answer["by_name"][HOST]["checks"] if check["id"].startswith("network.")}
    assert (answer["rc"], set(rates)) == (0, {"network.down", "network.up"})
    for check in rates.values():
        assert (check["status"], check["unit"]) == ("unknown", "Mbit/s"), "the rules of 2025-08 want no rate"
        assert float(check["measured"]) > 1, check
        assert "internet is another" in check["message"]
    with fleet.variables(HOST, celium_ruleset="2026-09"):
        answer = looked(fleet, "--limit", HOST, "--bandwidth")
    (down,) = (check for check in answer["by_name"][HOST]["checks"] if check["id"] == "network.down")
    assert (down["status"] in ("pass", "warn"), down["required"]) == (True, "100")
    assert fleet.on(HOST, LEFT) == ""


def test_an_image_that_a_deploy_would_pull_is_named(fleet, usual):
    image = f"docker.io/daturaai/compute-subnet-executor@sha256:{'0' * 64}"
    with fleet.variables(HOST, executor_image=image):
        found = news(fleet, usual)
    assert set(found) == {"docker.images"}
    assert (found["docker.images"]["status"], image in found["docker.images"]["message"]) == ("warn", True)


@contextmanager
def remembered(fleet, monkeypatch, cards):
    """Let the journal say for a while which cards hosts showed last; hosts by name, with their UUIDs."""
    monkeypatch.setenv("XDG_STATE_HOME", fleet.lab.env["XDG_STATE_HOME"])
    journal = Journal(fleet_dir(fleet.lab.inventory))
    places = {name: row_name((fleet.address(name), 8001)) for name in cards if name in fleet.names}
    hosts = [
        {"name": name, "verdict": "unknown", "assurance": "none", "gpus": [],
         "prediction": {"verdict": "unknown", "facts": {"host": {"uuids": uuids}, "cards": []}}}
        for name, uuids in cards.items()
    ]  # fmt: skip
    run = journal.begin("gpu prove", {})
    journal.detail(run, {"hosts": hosts, "places": places})
    journal.finish(run, "ok")
    try:
        yield
    finally:  # later tests ask for the last proof
        with closing(sqlite3.connect(journal.path)) as database, database:
            database.execute("delete from detail where run = ?", (run,))
            database.execute("delete from run where id = ?", (run,))


def test_the_validator_is_predicted_from_what_the_driver_says(fleet, tmp_path, monkeypatch):
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "integration" / "nvml_fake.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    for host in ("executor-1", "executor-2"):
        fleet.lab.pipe(host, f"cat > {LIBRARY}", library.read_bytes())
    try:
        required = {"executor_gpu_proof": "required"}
        before = {HOST: [f"GPU-{number}" for number in range(7)] + ["GPU-old"], "executor-9": ["GPU-7"]}
        with (
            fleet.variables("executor-1", **required),
            fleet.variables("executor-2", **required),
            remembered(fleet, monkeypatch, before),
        ):
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
    changed = host["bad"]["gpu.changed"]
    assert (changed["status"], changed["code"]) == ("warn", "GPU_UUID_CHANGED")
    assert "GPU-7 was in executor-9; GPU-old is gone" in changed["message"]
    other = answer["by_name"]["executor-2"]["bad"]["gpu.changed"]
    assert (other["code"], "GPU-7 was in executor-9" in other["message"]) == (None, True), "it has no history yet"
