"""Each thing that can be wrong with a host is named by its own check, and by no other."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.celium.ops.plugins.module_utils import tenancy
from hypothesis import given, settings
from hypothesis import strategies as st

from celium_ops.base.errors import UsageError
from celium_ops.cli import main as cli
from celium_ops.fleet.contract import computed_variables
from celium_ops.fleet.model import Connection, Fleet, Host
from celium_ops.gpu.messages import Card
from celium_ops.journal.fleet_state import fleet_dir
from celium_ops.journal.runs import Journal
from celium_ops.preflight import report as documented
from celium_ops.preflight.checks import checks, reference
from celium_ops.remote import survey
from celium_ops.remote.bandwidth import Rates
from celium_ops.remote.ports import Way
from celium_ops.remote.probe import Sight
from celium_ops.remote.survey import Seen
from celium_ops.workflows import preflight as workflow
from celium_ops.workflows.preflight import HostPreflight, Preflight, _between, _predicted, judged, renting_ports

VALUES = {
    "executor_gpu_proof": "required",
    "executor_external_port": 8001,
    "executor_ssh_port": 2200,
    "celium_dialect": "lium",
    "celium_ruleset": "2026-09",
    "executor_image": f"docker.io/daturaai/executor:1.2@sha256:{'0' * 64}",
    "executor_db_image": "postgres",
    "executor_weight": 1,
}
HOST = Host("gpu-1", "executor", Connection("192.0.2.1"), VALUES)
MINER = Host("miner-1", "miner", Connection("192.0.2.2"), {"miner_external_port": 8000, "miner_image": None})
VALID = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "docs" / "preflight.schema.json").read_text())
)

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
WAY = {"listening": [40000, 40002], "reached": [40000, 40002], "error": None}
GOOD = {
    "errors": {},
    "system": {
        "id": "ubuntu",
        "version": "24.04",
        "kernel": "6.8.0-31-generic",
        "arch": "x86_64",
        "cpus": 64,
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
        "driver": "overlay2",
        "containerd": False,
        "options": ["rw", "relatime", "prjquota"],
        "disk_gb": 4000.0,
        "free_gb": 3000.0,
    },
    "containers": [
        {"name": "executor-executor-1", "image": "executor@sha256:0", "state": "running", "project": "executor",
         "socket": True, "published": [{"address": "0.0.0.0", "port": port, "private": port} for port in (8001, 2200)]},
        {"name": "executor-db-1", "image": "postgres", "state": "running", "project": "executor", "socket": False,
         "published": []},
    ],
    "tenants": {"rented": [], "ended": [], "unclear": []},
    "stack": {
        "containers": [
            {"name": f"executor-{service}-1", "service": service, "state": "running", "health": "healthy",
             "complaint": None} for service in ("db", "executor", "monitor")
        ],
        "chain": None,
    },
    "named": {"wanted": "sha256:1", "validators": "sha256:1"},
    "sysbox": {"runs": {"sysbox": {"error": None}, "storage": {"error": None}}, "skipped": None, "error": None},
    "configuration": {
        "daemon": {"kind": "file", "log-opts": {"max-size": "10m"}, "exec-opts": ["native.cgroupdriver=cgroupfs"]},
        "runtime": {"kind": "file", "no_cgroups": False},
        "cdi": [],
    },
    "networks": {"networks": [{"name": "bridge", "subnet": "10.200.0.0/24", "hides": None}],
                 "pools": [{"base": "10.200.0.0/16", "hides": None}]},
    "listeners": [{"port": 8001, "program": "docker-proxy"}, {"port": 22, "program": "sshd"}],
    "packages": {
        "installed": {"docker-ce": {"version": "5:28.5.1", "held": True}},
        "versions": {"runc": "1.3.3", "toolkit": "1.18.1"},
        "unattended": True,
    },
    "keys": [{"path": "/opt/celium/executor/.env", "mode": 0o600}],
    "gpus": {"nvml": {"driver": "580.95.05", "count": 1, "library": None, "cards": [CARD]}, "nvml_error": None,
             "kernel": [CARD], "bus": [], "driver": {"library": "580.95.05", "module": "580.95.05", "nouveau": False}},
    "images": [f"daturaai/executor@sha256:{'0' * 64}", "daturaai/executor:9", "postgres:latest"],
    "tried_from": None,
    "services": {**WAY, "listening": [8001, 2200], "reached": [8001, 2200]},
    "ways": {"host": WAY, "published": copy.deepcopy(WAY)},
    "rates": {"down": 940.0, "up": None, "error": None, "skipped": None},
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
    shown = found["containers"]
    listed = None if shown is None else [{"Names": [one["name"]], "State": one["state"]} for one in shown]
    return {**found, "tenants": None if listed is None else tenancy.tenancy(listed)}


def named(seen, host=HOST):
    found = {check.id: check for check in checks(host, seen) if check.status != "pass"}
    up = found.pop("network.up", None)
    assert up is None or up.status == "unknown", "no rule wants a rate of this way"
    return found


def container(name, **more):
    base = {"name": name, "image": "x", "state": "running", "project": None, "socket": False, "published": []}
    return [*GOOD["containers"], {**base, **more}]


def unwell(health, complaint):
    db, executor, monitor = GOOD["stack"]["containers"]
    return [db, {**executor, "health": health, "complaint": complaint}, monitor]


OPEN = [{"address": "0.0.0.0", "port": 8432, "private": 5432}]
FLAWS = [
    ({"system__version": "20.04"}, "host.system", "fail", None),
    ({"system__id": "fedora"}, "host.system", "fail", None),
    ({"system__arch": "aarch64"}, "host.system", "fail", None),
    ({"system__cpus": 0}, "host.cpu", "warn", None),
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
    ({"docker__containerd": True}, "docker.quotas", "warn", None),
    ({"docker__driver": "vfs"}, "docker.quotas", "warn", None),
    ({"docker__filesystem": "ext4"}, "docker.quotas", "warn", None),
    ({"docker__options": ["rw", "noquota"]}, "docker.quotas", "warn", None),
    ({"docker__options": ["rw", "pqnoenforce"]}, "docker.quotas", "warn", None),
    ({"docker__disk_gb": 200.0}, "docker.disk.vram", "warn", None),
    ({"configuration__daemon": {"kind": "directory"}}, "docker.configuration", "fail", None),
    ({"configuration__daemon": {"kind": "invalid", "error": "x"}}, "docker.configuration", "fail", None),
    ({"configuration__daemon__hosts": ["tcp://0.0.0.0:2375"]}, "security.engine", "fail", None),
    ({"configuration__daemon__log-opts": None}, "docker.logs", "warn", None),
    ({"networks__networks": [{"name": "x", "subnet": "10.0.0.0/24", "hides": "10.0.0.0/8 (eth0)"}]},
     "docker.address_pools", "fail", None),
    ({"networks__pools": [{"base": "172.31.0.0/16", "hides": "172.31.16.0/20 (eth0)"}]},
     "docker.address_pools", "warn", None),
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
    ({"containers": [], "services": None}, "ports.free", "fail", None),
    ({"listeners": [{"port": 2375, "program": "dockerd"}]}, "security.engine.port", "fail", None),
    ({"services__reached": [8001]}, "ports.service", "fail", None),
    ({"services": {**WAY, "listening": [], "error": "miner-1: no route"}}, "ports.service", "unknown", None),
    ({"images": ["daturaai/executor:1.2", "postgres:latest"]}, "docker.images", "warn", None),
    ({"images": [f"daturaai/executor@sha256:{'1' * 64}", "postgres:latest"]}, "docker.images", "warn", None),
    ({"images": None, "errors": {"images": "refused"}}, "docker.images", "unknown", None),
    ({"named__validators": None}, "docker.images.name", "warn", None),
    ({"named__validators": "sha256:2"}, "docker.images.name", "warn", None),
    ({"sysbox__runs__sysbox": {"error": "unknown runtime"}}, "gpu.sysbox.run", "fail", None),
    ({"sysbox__runs__storage": {"error": "--storage-opt is supported only for"}}, "docker.quotas.run", "fail", None),
    ({"stack__containers": unwell("unhealthy", "NVML: Unknown Error")}, "docker.stack", "fail", None),
    ({"stack__containers": unwell("cut off from Docker", None)}, "docker.stack", "fail", None),
    ({"rates__down": 99.0}, "network.down", "warn", "VERIFYX_FAILED_NETWORK_SPEED_TOO_SLOW"),
    ({"rates": {"down": None, "up": None, "error": "no route", "skipped": None}}, "network.down", "unknown", None),
    ({"rates__skipped": "it is rented out"}, "network.down", "skipped", None),
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
    assert status in ("unknown", "skipped") or found[id_].remedy


def test_every_check_has_a_flaw_here():
    tried = {id_ for _, id_, _, _ in FLAWS}
    seen = {check.id for changes, _, _, _ in FLAWS for check in checks(HOST, facts(**changes))}
    assert seen - tried == {"docker.reserve", "network.up"}, "docker.disk comes before it; no rule wants a rate"


@pytest.mark.parametrize(
    ("driver", "said", "remedy"),
    [
        ({"library": None, "module": None}, "gone", "set nvidia_docker_driver_version"),
        ({"library": "580.95.05", "module": "580.82.09"}, "(580.82.09) differ", "a reboot waits"),
        ({"library": "580.95.05", "module": None}, "is not loaded: gone", "modprobe nvidia"),
        ({"library": "580.95.05", "module": None, "nouveau": True}, "nouveau has the cards", "or reboots"),
        ({"library": "580.95.05", "module": "580.95.05"}, "gone", "set nvidia_docker_driver_version"),
    ],
)
def test_why_nothing_gets_at_the_cards(driver, said, remedy):
    found = named(facts(gpus__nvml=None, gpus__nvml_error="gone", gpus__driver={"nouveau": False, **driver}))
    assert said in found["gpu.driver"].message
    assert remedy in found["gpu.driver"].remedy


def test_a_port_of_a_container_that_docker_does_not_tell_about_may_be_ours():
    found = named(facts(containers=None, errors={"containers": "refused", "tenants": "refused"}))
    assert {id_: check.status for id_, check in found.items()} == {
        "host.containers": "unknown",
        "host.tenants": "unknown",
        "ports.free": "unknown",
    }


def test_a_container_that_lost_its_cards_is_told_from_one_that_is_sick_otherwise():
    (lost,) = named(facts(stack__containers=unwell("unhealthy", "NVML: Unknown Error"))).values()
    assert lost.message == "executor-executor-1 is unhealthy (NVML: Unknown Error)"
    assert "nvidia-smi" in lost.remedy
    (sick,) = named(facts(stack__containers=unwell("unhealthy", None))).values()
    assert "celium-ops logs" in sick.remedy
    assert named(facts(stack__containers=unwell("starting", None))) == {}
    stopped = [{**one, "state": "exited"} for one in unwell("unhealthy", None)]
    assert named(facts(stack__containers=stopped)) == {}, "its port says so"


@pytest.mark.parametrize(
    ("chain", "remedy"),
    [("[sync] Miner sync failed", "miner_chain_endpoint"), ("is not registered on netuid", "btcli subnet register")],
)
def test_a_miner_that_cannot_use_the_chain_is_not_fit(chain, remedy):
    own = {"containers": [{**GOOD["stack"]["containers"][0], "name": "miner-miner-1"}], "chain": chain}
    changes = {"gpus": None, "services": None, "ways": {}, "rates": None, "containers": [], "named": None}
    found = named(facts(stack=own, docker__live_restore=False, sysbox=None, **changes), MINER)
    assert {id_: check.status for id_, check in found.items()} == {"miner.chain": "fail"}
    assert chain in found["miner.chain"].message
    assert remedy in found["miner.chain"].remedy


def test_a_miner_of_lium_without_an_endpoint_for_collateral_is_warned():
    values = {**MINER.values, "celium_dialect": "lium", "celium_network": "ws://192.0.2.9:9944"}
    miner = Host("miner-1", "miner", Connection("192.0.2.2"), values)
    changes = {"gpus": None, "services": None, "ways": {}, "rates": None, "containers": [], "named": None}
    found = named(facts(docker__live_restore=False, sysbox=None, **changes), miner)
    assert {id_: check.status for id_, check in found.items()} == {"miner.collateral": "warn"}
    assert "miner_evm_rpc_url" in found["miner.collateral"].remedy


def test_the_validators_commands_are_not_run_beside_a_tenant_nor_where_there_are_no_cards(monkeypatch):
    monkeypatch.setattr(workflow, "trial", lambda _: pytest.fail("it was run"))
    for rented, proof, why in ((True, "required", "rented out"), (None, "required", "cannot be read"),
                               (False, "simulated", "a rehearsal")):  # fmt: skip
        values = {**VALUES, "nvidia_docker_sysbox": True, "executor_gpu_proof": proof}
        seen = workflow._sysbox(Host("gpu-1", "executor", Connection("x"), values), rented)
        found = named(facts(sysbox=seen))
        assert {id_: check.status for id_, check in found.items()} == {
            "gpu.sysbox.run": "skipped",
            "docker.quotas.run": "skipped",
        }
        assert why in found["gpu.sysbox.run"].message
    assert workflow._sysbox(HOST, False) is None, "sysbox is not wanted"


def test_sysbox_that_fails_when_tried_is_none_to_the_validator():
    seen = facts()
    assert _predicted(HOST, seen, False, None, None)["facts"]["host"]["sysbox"] is True
    seen = facts(sysbox__runs__sysbox={"error": "unknown runtime"})
    prediction = _predicted(HOST, seen, False, None, None)
    assert prediction["facts"]["host"]["sysbox"] is False
    assert "SYSBOX_REQUIRED_MISSING" in {reason["code"] for reason in prediction["reasons"]}


def test_a_public_key_may_be_read_and_a_local_database_be_published():
    local = [{"address": "127.0.0.1", "port": 5432, "private": 5432}]
    keys = [{"path": "/root/w/coldkeypub.txt", "mode": 0o644}]
    assert named(facts(keys=keys, containers=container("db", published=local))) == {}


def test_a_host_of_a_rehearsal_has_no_cards_and_that_is_fine():
    host = Host("gpu-1", "executor", Connection("x"), {**VALUES, "executor_gpu_proof": "simulated"})
    found = named(facts(gpus__nvml=None, configuration__runtime={"kind": "missing"}), host)
    assert {check.status for check in found.values()} == {"skipped"}


def test_whoever_has_no_quotas_is_told_why_and_what_to_do():
    for changes, why, cure in (
        ({"docker__containerd": True}, "containerd keeps", "nvidia_docker_disk"),
        ({"docker__filesystem": "ext4"}, "/var/lib/docker is on ext4", "nvidia_docker_disk"),
        ({"docker__options": ["rw"]}, "XFS without project quotas", "mount it anew"),
        ({"docker__disk_gb": 200.0}, "200 GB of disk for 151 GB", "226 GB would do; a new host gets an empty disk"),
    ):
        (found,) = named(facts(**changes)).values()
        assert why in found.message
        assert cure in found.remedy
    assert named(facts(docker__driver="btrfs", docker__filesystem="btrfs", docker__options=[])) == {}


@pytest.mark.parametrize(("active", "keeper"), [(["ntpsec.service"], "ntpsec"), ([], None)])
def test_who_keeps_the_clock_is_looked_for_among_those_that_deploys_know(on_host, monkeypatch, active, keeper):
    asked = survey._asked(Host("gpu-1", "executor", Connection("x"), {"celium_stack_dir": "/opt/celium"}), False)
    assert asked["keepers"] == computed_variables("common")["_common_clock_keepers"]

    def said(*words):
        return (
            "yes"
            if words[0] == "timedatectl"
            else "\n".join("active" if unit in active else "inactive" for unit in words[2:])
        )

    monkeypatch.setattr(on_host, "_said", said)
    assert on_host.clock(asked)["keeper"] == keeper


def test_a_miner_is_not_asked_for_what_only_executors_need():
    found = named(
        facts(gpus=None, services=None, ways={}, rates=None, containers=[], docker__live_restore=False), MINER
    )
    assert found == {}


def test_a_validator_wants_more_cores_than_others():
    host = Host("validator-1", "validator", Connection("x"), {"validator_external_port": 8010})
    for cores, status in ((4, "pass"), (3, "warn")):
        seen = facts(gpus=None, services=None, ways={}, rates=None, containers=[], system__cpus=cores)
        assert {check.id: check.status for check in checks(host, seen)}["host.cpu"] == status
        assert "host.cpu" not in named(facts(system__cpus=cores), HOST)


COMPUTED = ("errors", "drift_s", "tried_from", "services", "ways", "rates", "sysbox")


@given(st.sets(st.sampled_from([key for key in GOOD if key not in COMPUTED])))
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


def test_where_ports_were_tried_from_is_said():
    for place, words in ((None, "from here"), ("miner-1", "from miner-1")):
        said = {check.id: check.message for check in checks(HOST, facts(tried_from=place))}
        assert all(words in said[f"ports.{way}"] for way in ("service", "host", "published")), said


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(/[a-z][a-z0-9]{0,8})?", fullmatch=True)
PREFIXES = ("", "docker.io/", "index.docker.io/", "docker.io/library/")
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


@given(NAMES, st.sampled_from(PREFIXES), st.sampled_from(["", ":1.2"]), DIGESTS)
def test_an_image_with_a_digest_is_the_same_however_it_is_written(name, prefix, tag, digest):
    assert reference(f"{prefix}{name}{tag}@{digest}") == reference(f"{name}@{digest}")


@given(NAMES, NAMES, DIGESTS, DIGESTS)
def test_images_that_differ_are_not_taken_for_each_other(one, other, digest, another):
    names = [(one, digest), (other, digest), (one, another)]
    found = [reference(f"registry:5000/{name}@{seen}") for name, seen in names]
    assert len(set(found)) == len(set(names))
    assert reference(f"registry:5000/{one}") == f"registry:5000/{one.removeprefix('library/')}:latest"


RATES = [("2025-08", 1.0, "unknown"), ("2025-12", 49.0, "warn"), ("2025-12", 50.0, "pass"), ("2026-09", 99.0, "warn")]


@pytest.mark.parametrize(("rules", "rate", "status"), RATES)
def test_rates_are_held_against_the_edition_of_the_rules(rules, rate, status):
    host = Host("gpu-1", "executor", Connection("x"), {**VALUES, "celium_ruleset": rules})
    (check,) = (check for check in checks(host, facts(rates__down=rate)) if check.id == "network.down")
    assert (check.status, check.measured, check.unit) == (status, f"{rate:.0f}", "Mbit/s")
    assert "internet is another" in check.message
    miner = [check for check in checks(MINER, {**facts(), "gpus": None}) if check.id == "network.down"]
    assert [check.status for check in miner] == ["unknown"], "no rule of theirs"


def valid(found):
    """Assert that the document of a preflight is what its schema promises, field by field."""
    document = json.loads(json.dumps({"schema": "celium-ops/preflight/1", **found.to_json()}))
    VALID.validate(document)
    assert set(document) == {field.name for field in fields(documented.Document)}
    for host in document["hosts"]:
        assert set(host) == {field.name for field in fields(documented.HostEntry)}
    return document


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([changes for changes, *_ in FLAWS]), max_size=3),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, "miner-1", "gpu-1"]),
)
def test_the_document_is_what_its_schema_promises_whatever_is_wrong(flaws, rented, place):
    seen = facts(tried_from=place)
    for changes in flaws:
        damaged = facts(**changes)
        seen |= {part: damaged[part] for part in {key.split("__")[0] for key in changes}}
    found = [judged(HOST, seen, rented, PROVEN, None), judged(MINER, {**seen, "gpus": None}, False, None, None)]
    document = valid(Preflight(place, found))
    assert document["ok"] is all(host["ok"] for host in document["hosts"])
    assert document["tried_from"] == place


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.pop("tried_from"),
        lambda document: document.update(ok="yes"),
        lambda document: document.update(schema="celium-ops/preflight/2"),
        lambda document: document["hosts"][0].pop("ok"),
        lambda document: document["hosts"][0].update(role="neuron"),
        lambda document: document["hosts"][0]["checks"][0].update(status="bad"),
        lambda document: document["hosts"][0]["checks"][0].update(measured=1),
        lambda document: document["hosts"][0]["prediction"].update(verdict="maybe"),
        lambda document: document["hosts"][0]["prediction"]["reasons"][0].pop("code"),
    ],
)
def test_the_schema_refuses_what_is_none(damage):
    document = valid(Preflight(None, [judged(HOST, GOOD, False, None, None)]))
    damage(document)
    with pytest.raises(jsonschema.ValidationError):
        VALID.validate(document)


class Stage:
    """Hosts that show what they are told to, and say who was asked to try, to listen and to carry."""

    def __init__(self, monkeypatch, tmp_path):
        self.shown = {"gpu-1": facts(), "gpu-2": facts(), "miner-1": facts(gpus=None, containers=[])}
        self.rentals = ()
        self.tried_from, self.ways, self.measured = [], [], []
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        self.inventory = tmp_path / "fleet.yml"
        values = {**VALUES, "executor_address": "192.0.2.1", "executor_gpu_proof": "required"}
        hosts = [
            Host("miner-1", "miner", Connection("192.0.2.9"), {"miner_external_port": 8000}),
            *(Host(name, "executor", Connection("192.0.2.1"), values) for name in ("gpu-1", "gpu-2")),
        ]
        self.fleet = Fleet(self.inventory, {host.name: host for host in hosts})
        self.shown["gpu-2"]["gpus"]["nvml"]["cards"][0]["uuid"] = "GPU-2"
        self.shown["gpu-2"]["gpus"]["kernel"] = self.shown["gpu-2"]["gpus"]["nvml"]["cards"]
        for name in ("host_way", "published_way", "service_way"):
            monkeypatch.setattr(workflow, name, self.way(name))
        monkeypatch.setattr(workflow, "load_fleet", lambda _: self.fleet)
        monkeypatch.setattr(workflow, "survey", lambda hosts: {host.name: self.seen(host.name) for host in hosts})
        monkeypatch.setattr(
            workflow, "probe", lambda hosts: {host.name: Sight(True, rentals=self.rentals) for host in hosts}
        )
        monkeypatch.setattr(workflow, "trying_from", self.trying_from)
        monkeypatch.setattr(workflow, "measure", self.measure)

    def seen(self, name):
        shown = self.shown[name]
        return Seen(shown, None if shown else "no route", 0.0)

    def way(self, name):
        def way(*arguments):
            host = next((one.name for one in arguments if isinstance(one, Host)), None)
            self.ways.append((name, host))
            return Way((1,), (1,))

        return way

    @contextmanager
    def trying_from(self, host):
        self.tried_from.append(host and host.name)
        yield None

    def measure(self, host):
        self.measured.append(host.name)
        return Rates(940.0, 210.0)

    def look(self, *arguments):
        found = workflow.preflight(self.inventory, None, lambda _: None, *arguments)
        valid(found)
        return {host.name: {check.id: check for check in host.checks} for host in found.hosts}


@pytest.fixture
def stage(monkeypatch, tmp_path):
    return Stage(monkeypatch, tmp_path)


def test_ports_are_tried_from_here_unless_a_host_is_named(stage):
    stage.look()
    assert stage.tried_from == [None]
    assert {("host_way", name) for name in ("gpu-1", "gpu-2")} < set(stage.ways)
    assert stage.measured == []


def test_no_host_is_tried_from_itself_and_the_others_are(stage):
    found = stage.look("gpu-1")
    assert stage.tried_from == ["gpu-1"]
    assert {host for _, host in stage.ways} == {None, "gpu-2"}
    assert found["gpu-1"]["ports.service"].status == "skipped"
    assert not {"ports.host", "ports.published"} & set(found["gpu-1"])
    assert "from gpu-1" in found["gpu-2"]["ports.host"].message
    assert found["gpu-2"]["ports.service"].status == "pass"


def test_a_host_that_is_none_cannot_be_tried_from(stage):
    with pytest.raises(UsageError, match=r"gpu-3 is no host of .*did you mean gpu-"):
        stage.look("gpu-3")
    assert stage.tried_from == []


def test_the_way_is_measured_only_where_it_is_asked_for_and_disturbs_nobody(stage):
    stage.shown["gpu-2"] = facts(containers=container("container_9", state="running"))
    found = stage.look(None, True)
    assert stage.measured == ["miner-1", "gpu-1"]
    assert found["gpu-1"]["network.down"].status == "pass"
    assert found["gpu-2"]["network.down"].status == "skipped"
    stage.measured, stage.rentals = [], ("container_8",)  # who came after the survey
    found = stage.look(None, True)
    assert (stage.measured, found["gpu-1"]["network.down"].status) == (["miner-1"], "skipped")


def test_whatever_a_host_shows_the_others_are_looked_at(stage):
    stage.shown |= {"gpu-1": None, "miner-1": {"clock": 5}}
    found = stage.look("miner-1", True)
    assert found["gpu-1"]["host.reach"].status == "fail"
    assert found["miner-1"]["host.survey"].status == "error"
    assert found["gpu-2"]["ports.host"].status == "pass"


def typed(monkeypatch, capsys, *words):
    """Type a command; return its exit code and its document."""
    monkeypatch.setattr("sys.argv", ["celium-ops", "--json", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return end.value.code or 0, json.loads(out.out)


def test_what_is_typed_decides_and_the_document_is_the_promised_one(stage, monkeypatch, capsys):
    inventory = ("-i", str(stage.inventory))
    code, document = typed(monkeypatch, capsys, *inventory, "preflight", "--from", "miner-1", "--bandwidth")
    VALID.validate(document)
    assert (code, document["ok"], document["tried_from"]) == (0, True, "miner-1"), document
    assert (stage.tried_from, stage.measured) == (["miner-1"], ["miner-1", "gpu-1", "gpu-2"])
    stage.shown["gpu-1"] = None
    code, document = typed(monkeypatch, capsys, *inventory, "preflight")
    VALID.validate(document)
    assert (code, document["ok"], document["tried_from"]) == (1, False, None)
    code, document = typed(monkeypatch, capsys, *inventory, "preflight", "--from", "miner-2")
    assert (code, document["ok"], document["error"]["code"]) == (2, False, "no-such-host")
    assert "did you mean miner-1" in document["error"]["message"]


def test_cards_are_held_against_the_last_proof_and_between_hosts(stage):
    journal = Journal(fleet_dir(stage.inventory))
    run = journal.begin("gpu prove", {})
    shown = {"gpu-1": ["GPU-2"], "gpu-2": ["GPU-2"]}
    hosts = [
        {"name": name, "verdict": "unknown", "assurance": "none", "gpus": [],
         "prediction": {"facts": {"host": {"uuids": uuids}, "cards": []}}}
        for name, uuids in shown.items()
    ]  # fmt: skip
    journal.detail(run, {"hosts": hosts, "places": dict.fromkeys(shown, "192.0.2.1:8001")})
    found = stage.look()
    assert (found["gpu-1"]["gpu.changed"].status, found["gpu-2"]["gpu.changed"].status) == ("warn", "pass")
    assert found["gpu-1"]["gpu.changed"].message.endswith("GPU-0 is new; GPU-2 is in gpu-2 now")
    assert "gpu.changed" not in found["miner-1"]
