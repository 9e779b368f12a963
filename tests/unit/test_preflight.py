"""Each thing that can be wrong with a host is named by its own check, and by no other."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celium_ops.fleet.model import Connection, Host
from celium_ops.gpu.messages import Card
from celium_ops.preflight.checks import checks
from celium_ops.workflows.preflight import HostPreflight, _between, _predicted, renting_ports

VALUES = {
    "executor_gpu_proof": "required",
    "executor_external_port": 8001,
    "executor_ssh_port": 2200,
    "celium_dialect": "lium",
}
HOST = Host("gpu-1", "executor", Connection("192.0.2.1"), VALUES)
MINER = Host("miner-1", "miner", Connection("192.0.2.2"), {"miner_external_port": 8000})

CARD = {
    **dict.fromkeys(Card.model_fields),
    "uuid": "GPU-0",
    "name": "NVIDIA H200",
    "memory_mib": 143771,
    "held_mib": 4,
    "utilisation": 0,
    "memory_utilisation": 0,
    "processes": [],
    "power_limit_w": 700.0,
    "default_power_limit_w": 700.0,
}
WAY = {"listening": [40000, 40002], "reached": [40000, 40002], "taken": [], "error": None}
GOOD = {
    "errors": {},
    "system": {
        "id": "ubuntu",
        "version": "24.04",
        "kernel": "6.8.0-31-generic",
        "arch": "x86_64",
        "cpus": 64,
        "memory_mib": 512_000,
        "available_mib": 500_000,
        "reboot_required": False,
        "preload": False,
        "tun": True,
        "loop": True,
    },
    "clock": {"now": 0.0, "synchronised": True, "keeper": "chrony"},
    "drift_s": 0.1,
    "docker": {
        "version": "28.5.1",
        "cgroup_driver": "cgroupfs",
        "runtimes": ["nvidia", "runc", "sysbox-runc"],
        "live_restore": True,
        "root": "/var/lib/docker",
        "filesystem": "xfs",
        "quotas": True,
        "disk_gb": 4000.0,
        "free_gb": 3000.0,
    },
    "containers": [
        {"name": "executor-executor-1", "image": "executor@sha256:0", "state": "running", "project": "executor",
         "socket": True, "published": [{"address": "0.0.0.0", "port": port, "private": port} for port in (8001, 2200)]},
        {"name": "executor-db-1", "image": "postgres", "state": "running", "project": "executor", "socket": False,
         "published": []},
    ],
    "configuration": {
        "daemon": {"kind": "file", "log-opts": {"max-size": "10m"}, "exec-opts": ["native.cgroupdriver=cgroupfs"]},
        "runtime": {"kind": "file", "no_cgroups": False},
        "cdi": [],
    },
    "listeners": [{"port": 8001, "program": "docker-proxy"}, {"port": 22, "program": "sshd"}],
    "packages": {
        "installed": {"docker-ce": {"version": "5:28.5.1", "held": True}},
        "versions": {"runc": "1.3.3", "toolkit": "1.18.1"},
        "unattended": True,
    },
    "keys": [{"path": "/opt/celium/executor/.env", "mode": 0o600}],
    "gpus": {"nvml": {"driver": "580.95.05", "count": 1, "library": None, "cards": [CARD]}, "nvml_error": None,
             "kernel": [CARD], "bus": []},
    "services": {8001: True, 2200: True},
    "ways": {"host": WAY, "published": copy.deepcopy(WAY)},
}  # fmt: skip


def facts(**changes):
    """Return the facts of a good host, changed: ``docker__version`` is what stands in docker under version."""
    found = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = found
        for parent in parents:
            place = place[parent]
        place[last] = value
    return found


def named(seen, host=HOST):
    return {check.id: check for check in checks(host, seen) if check.status != "pass"}


def container(name, **more):
    base = {"name": name, "image": "x", "state": "running", "project": None, "socket": False, "published": []}
    return [*GOOD["containers"], {**base, **more}]


OPEN = [{"address": "0.0.0.0", "port": 8432, "private": 5432}]
FLAWS = [
    ({"system__version": "20.04"}, "host.system", "fail", None),
    ({"system__id": "fedora"}, "host.system", "fail", None),
    ({"system__arch": "aarch64"}, "host.system", "fail", None),
    ({"system__available_mib": 8000}, "host.memory", "warn", None),
    ({"system__reboot_required": True}, "host.reboot", "warn", None),
    ({"system__kernel": "5.15.0-100-generic"}, "host.kernel", "warn", None),
    ({"system__tun": False}, "host.tun", "fail", None),
    ({"system__loop": False}, "host.loop", "fail", None),
    ({"system__preload": True}, "host.preload", "fail", "SCRAPE_FAILED"),
    ({"drift_s": -3.0}, "host.clock", "warn", None),
    ({"drift_s": 10.0}, "host.clock", "fail", None),
    ({"clock__synchronised": False}, "host.time", "warn", None),
    ({"clock__synchronised": False, "clock__keeper": None}, "host.time", "warn", None),
    ({"clock__synchronised": None}, "host.time", "unknown", None),
    ({"docker__version": "24.0.7"}, "docker.version", "fail", None),
    ({"docker__free_gb": 19.0}, "docker.disk", "warn", None),
    ({"docker__live_restore": False}, "docker.live_restore", "warn", None),
    ({"docker__quotas": False}, "docker.quotas", "warn", None),
    ({"docker__disk_gb": 200.0}, "docker.disk.vram", "warn", None),
    ({"configuration__daemon": {"kind": "directory"}}, "docker.configuration", "fail", None),
    ({"configuration__daemon": {"kind": "invalid", "error": "x"}}, "docker.configuration", "fail", None),
    ({"configuration__daemon__hosts": ["tcp://0.0.0.0:2375"]}, "security.engine", "fail", None),
    ({"configuration__daemon__log-opts": None}, "docker.logs", "warn", None),
    ({"configuration__runtime": {"kind": "missing"}}, "gpu.runtime", "fail", None),
    ({"configuration__runtime": {"kind": "directory"}}, "gpu.runtime", "fail", None),
    ({"configuration__runtime__no_cgroups": True}, "gpu.runtime.cgroups", "fail", None),
    ({"docker__cgroup_driver": "systemd", "packages__versions__toolkit": "1.17.8"}, "gpu.reload", "fail", None),
    ({"docker__version": "29.2.0"}, "gpu.sysbox.cdi", "fail", None),
    ({"packages__installed__docker-ce__held": False}, "host.upgrades", "warn", None),
    ({"packages__versions__toolkit": "1.17.7"}, "security.toolkit", "fail", None),
    ({"packages__versions__runc": "1.2.7"}, "security.runc", "fail", None),
    ({"packages__versions__runc": "1.3.2"}, "security.runc", "fail", None),
    ({"packages__versions__runc": "1.1.12-0ubuntu3"}, "security.runc", "unknown", None),
    ({"containers": container("db", published=OPEN)}, "security.database", "fail", None),
    ({"containers": container("portainer", socket=True)}, "security.socket", "warn", None),
    ({"containers": container("watchtower", image="containrrr/watchtower:1.7.1")}, "docker.watchtower", "warn", None),
    ({"containers": container("container_9", state="exited")}, "gpu.leftovers", "warn", "ORPHANED_RENTAL_CONTAINER"),
    ({"containers": [], "services": {}}, "ports.free", "fail", None),
    ({"listeners": [{"port": 2375, "program": "dockerd"}]}, "security.engine.port", "fail", None),
    ({"services": {8001: True, 2200: False}}, "ports.service", "fail", None),
    ({"ways__host__reached": [40000]}, "ports.host", "fail", "PORT_VERIFY_FAILED"),
    ({"ways__published__reached": []}, "ports.published", "fail", "PORT_VERIFY_FAILED"),
    ({"ways__published__error": "no such image"}, "ports.published", "unknown", None),
    ({"keys": [{"path": "/srv/public/w/coldkey", "mode": 0o600}]}, "security.coldkey", "fail", None),
    ({"keys": [{"path": "/root/w/hotkeys/default", "mode": 0o644}]}, "security.modes", "fail", None),
    ({"gpus__nvml": None, "gpus__nvml_error": "Driver/library version mismatch"}, "gpu.driver", "fail",
     "SCRAPE_FAILED"),
    ({"gpus__kernel": []}, "gpu.kernel", "fail", None),
    ({"docker": None, "errors": {"docker": "refused"}}, "docker.engine", "fail", None),
    ({"docker": None, "errors": {"docker": "no file"}, "packages__installed": {}}, "docker.engine", "warn", None),
    ({"keys": None, "errors": {"keys": "denied"}}, "host.keys", "unknown", None),
]  # fmt: skip


def test_nothing_is_wrong_with_a_good_host():
    assert named(GOOD) == {}


@pytest.mark.parametrize(("changes", "id_", "status", "code"), FLAWS)
def test_each_flaw_is_named_by_its_check_alone(changes, id_, status, code):
    found = named(facts(**changes))
    assert set(found) == {id_}, found
    assert (found[id_].status, found[id_].code) == (status, code)
    assert status == "unknown" or found[id_].remedy


def test_every_check_has_a_flaw_here():
    tried = {id_ for _, id_, _, _ in FLAWS}
    seen = {check.id for changes, _, _, _ in FLAWS for check in checks(HOST, facts(**changes))}
    assert seen - tried == {"docker.reserve"}, "which docker.disk comes before"


def test_a_port_of_a_container_that_docker_does_not_tell_about_may_be_ours():
    found = named(facts(containers=None, errors={"containers": "refused"}))
    assert {id_: check.status for id_, check in found.items()} == {
        "host.containers": "unknown",
        "ports.free": "unknown",
    }


def test_a_public_key_may_be_read_and_a_local_database_be_published():
    local = [{"address": "127.0.0.1", "port": 5432, "private": 5432}]
    keys = [{"path": "/root/w/coldkeypub.txt", "mode": 0o644}]
    assert named(facts(keys=keys, containers=container("db", published=local))) == {}


def test_a_host_of_a_rehearsal_has_no_cards_and_that_is_fine():
    host = Host("gpu-1", "executor", Connection("x"), {**VALUES, "executor_gpu_proof": "simulated"})
    found = named(facts(gpus__nvml=None, configuration__runtime={"kind": "missing"}), host)
    assert {check.status for check in found.values()} == {"skipped"}


def test_a_miner_is_not_asked_for_what_only_executors_need():
    found = named(facts(gpus=None, services={}, ways={}, containers=[], docker__live_restore=False), MINER)
    assert found == {}


@given(st.sets(st.sampled_from([key for key in GOOD if key not in ("errors", "drift_s", "services", "ways")])))
def test_what_could_not_be_read_is_said_and_the_rest_is_looked_at(missing):
    seen = {**facts(**dict.fromkeys(missing)), "errors": dict.fromkeys(missing, "denied")}
    found = named(seen)
    assert {check.status for check in found.values()} <= {"unknown", "fail", "warn"}
    assert all(any(name in id_ for id_ in found) for name in missing)


RANGES = [
    ({}, 20000, 10),
    ({"executor_renting_port_range": "40000-40002"}, 40000, 3),
    ({"executor_renting_port_range": "40000-40100"}, 40000, 10),
    ({"executor_renting_port_range": "9001,9002,9003,9004,9005,9006,9007"}, 9001, 7),
    ({"celium_dialect": "celium"}, 40000, 10),
]


@pytest.mark.parametrize(("values", "first", "count"), RANGES)
def test_the_first_ports_and_a_spread_of_the_others_are_tried(values, first, count):
    ports = renting_ports(Host("gpu-1", "executor", Connection("x"), {**VALUES, **values}))
    assert (ports[0], len(ports), len(set(ports))) == ((first, first), count, count)
    assert ports == sorted(ports)


def test_ports_behind_a_router_are_tried_as_the_world_sees_them():
    host = Host(
        "gpu-1", "executor", Connection("x"), {**VALUES, "executor_renting_port_mappings": [[9001, 41], [9002, 42]]}
    )
    assert renting_ports(host) == [(9001, 41), (9002, 42)]


def test_no_two_hosts_have_the_same_card():
    def host(name, *uuids):
        return HostPreflight(
            name,
            "executor",
            True,
            False,
            (),
            {"verdict": "accept", "facts": {"cards": [{"uuid": uuid} for uuid in uuids]}},
        )

    found = _between([host("a", "GPU-1"), host("b", "GPU-2", "GPU-1", None), host("c", "GPU-3", None)])
    assert [one.ok for one in found] == [False, False, True]
    assert found[0].checks[0].code == "EXECUTOR_DUPLICATE"


PROVEN = {"verdict": "accept", "assurance": "work_proven"}
# What is unusual, what the last proof said, and the codes of what stands in the way; the digest of no library is known.
PREDICTIONS = [
    ({}, PROVEN, "unknown", {"NVML_DIGEST_MISMATCH"}),
    ({}, None, "unknown", {"NVML_DIGEST_MISMATCH", "GPU_VERIFY_FAILED"}),
    ({}, {"verdict": "reject", "assurance": "none"}, "reject", {"GPU_VERIFY_FAILED"}),
    ({}, {"verdict": "unknown", "assurance": "none"}, "unknown", {"NVML_DIGEST_MISMATCH", "GPU_VERIFY_FAILED"}),
    ({"gpus__nvml": None, "gpus__nvml_error": "gone"}, PROVEN, "reject", {"GPU_COUNT_ZERO", "NVML_DRIVER_UNKNOWN"}),
    ({"ways__host__reached": [], "ways__published__reached": []}, PROVEN, "reject", {"PORT_COUNT_RECORDED"}),
    ({"system__available_mib": 8000}, PROVEN, "reject", {"VERIFYX_FAILED"}),
    ({"docker__free_gb": 99.0}, PROVEN, "reject", {"VERIFYX_FAILED"}),
]


@pytest.mark.parametrize(("changes", "report", "verdict", "codes"), PREDICTIONS)
def test_the_validator_is_predicted(changes, report, verdict, codes):
    host = Host("gpu-1", "executor", Connection("x"), {**VALUES, "celium_ruleset": "2025-12"})
    found = _predicted(host, facts(**changes), False, report, None)
    assert found["verdict"] == verdict
    assert {reason["code"] for reason in found["reasons"]} - {"GPU_BANNED", "gpu.validate.rental_history"} == codes


UNSEEN = [
    {"gpus": None},
    {"gpus__nvml__cards": [{**CARD, "ecc_uncorrected": 2**64 - 1}]},
    {"ways__published__error": "a port is taken"},
    {"ways": {"host": {**WAY, "listening": [1, 2], "reached": []}}},
    {"system": None},
    {"docker": None},
]


@pytest.mark.parametrize("changes", UNSEEN)
def test_what_could_not_be_seen_rejects_nobody(changes):
    host = Host("gpu-1", "executor", Connection("x"), {**VALUES, "celium_ruleset": "2025-12"})
    assert _predicted(host, facts(**changes), False, PROVEN, None)["verdict"] == "unknown"
