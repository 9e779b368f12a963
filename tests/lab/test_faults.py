"""Faults that an operator meets, made the way they come about: each is named with its host and cause, the other hosts
are done, and the next deploy after the cause is gone finishes the job.
"""

from __future__ import annotations

import pytest
from fleet import assert_only, broken

FILL = "mount -t tmpfs -o size=64k tmpfs {0}; head -c 65536 /dev/zero > {0}/left-over"


@pytest.fixture(autouse=True)
def healthy_again(deployed):
    """Whatever a test did, the next one begins with a healthy fleet."""
    yield
    assert deployed.status()["ok"]


def test_sudo_is_refused(fleet):
    with broken(fleet, "executor-1", "mv /etc/sudoers.d/90-operator /root/", "mv /root/90-operator /etc/sudoers.d/"):
        assert_only(fleet.deploy(), "executor-1", "sudo is refused")
        status = fleet.status()["by_name"]["executor-1"]
        assert (status["reachable"], "sudo" in " ".join(status["problems"])) == (False, True)
    assert fleet.deploy("--limit", "executor-1")["ok"]


def test_the_disk_is_full(fleet):
    stack = "/opt/celium/executor"
    with broken(fleet, "executor-1", FILL.format(stack) + "|| true", f"umount {stack}"):
        assert_only(fleet.deploy(), "executor-1", "the disk is full", "No space left on device", f"{stack}/.env")
    assert fleet.deploy("--limit", "executor-1")["ok"]


def test_the_registry_has_no_such_image(fleet):
    image = fleet.status()["by_name"]["executor-1"]["containers"][1]["image"]
    missing = image[:-64] + "0" * 64
    with fleet.variables("executor-1", executor_image=missing):
        assert_only(fleet.deploy(), "executor-1", "the registry has no such image", missing)
        # What ran goes on running: the image is fetched before anything is stopped.
        assert all(one["health"] != "unhealthy" for one in fleet.status()["by_name"]["executor-1"]["containers"])
    assert fleet.deploy("--limit", "executor-1")["ok"]


def test_a_container_never_gets_healthy(fleet):
    wrong = fleet.status()["by_name"]["miner-1"]["containers"][0]["image"]
    assert "miner" in wrong
    with fleet.variables("executor-1", executor_image=wrong, celium_start_timeout=15):
        answer = fleet.deploy()
        assert_only(answer, "executor-1", "does not get healthy", "executor-executor-1", "said last:", "Field required")
        password = fleet.on("executor-1", "sed -n s/^POSTGRES_PASSWORD=//p /opt/celium/executor/db.env")
        assert password not in str(answer)
    assert fleet.deploy("--limit", "executor-1")["ok"]


def test_the_database_of_the_miner_is_down_when_executors_are_to_be_registered(fleet):
    fleet.sql("delete from executor where address = (select address from executor order by address limit 1)")
    with broken(fleet, "miner-1", "docker stop miner-db-1", "true"):
        answer = fleet.deploy("--limit", "executor-1")
        assert_only(answer, "miner-1", "the miner's database does not answer")
        assert answer["by_name"]["executor-1"]["registered"] is False
    answer = fleet.deploy()
    assert (answer["rc"], answer["by_name"]["executor-1"]["registered"]) == (0, True)
