"""Faults that an operator meets, made the way they come about: each is named with its host and cause, and the other
hosts are done. The tests tell one story: the next deploy goes on from what the last fault left, once its cause is gone.
"""

from __future__ import annotations

import json
import shlex

import pytest
from fleet import IMPATIENT, assert_only, broken

SOME = ("--limit", "executor-1,miner-1")
"""Who has the fault and a witness; that one host's fault stops none of a whole fleet is told by test_deploy."""
FILL = "mount -t tmpfs -o size=64k tmpfs {0}; head -c 65536 /dev/zero > {0}/left-over"


@pytest.fixture(autouse=True, scope="module")
def healthy_again(deployed):
    """The deploy after the last fault finishes the job."""
    yield
    assert deployed.deploy()["ok"]
    assert deployed.status()["ok"]


def test_sudo_is_refused(fleet):
    with broken(fleet, "executor-1", "mv /etc/sudoers.d/90-operator /root/", "mv /root/90-operator /etc/sudoers.d/"):
        assert_only(fleet.deploy(*SOME), "executor-1", "sudo is refused")
        status = fleet.status()["by_name"]["executor-1"]
        assert (status["reachable"], "sudo" in " ".join(status["problems"])) == (False, True)


def test_the_disk_is_full(fleet):
    stack = "/opt/celium/executor"
    with broken(fleet, "executor-1", FILL.format(stack) + "|| true", f"umount {stack}"):
        assert_only(fleet.deploy(*SOME), "executor-1", "the disk is full", "No space left on device", f"{stack}/.env")


def test_the_registry_has_no_such_image(fleet):
    image = fleet.status()["by_name"]["executor-1"]["containers"][1]["image"]
    missing = image[:-64] + "0" * 64
    with fleet.variables("executor-1", executor_image=missing):
        assert_only(fleet.deploy(*SOME), "executor-1", "the registry has no such image", missing)
        # What ran goes on running: the image is fetched before anything is stopped.
        assert all(one["health"] != "unhealthy" for one in fleet.status()["by_name"]["executor-1"]["containers"])


def test_a_container_never_gets_healthy(fleet):
    wrong = fleet.status()["by_name"]["miner-1"]["containers"][0]["image"]
    assert "miner" in wrong
    with fleet.variables("executor-1", executor_image=wrong, celium_start_timeout=10):
        answer = fleet.deploy(*SOME)
        assert_only(answer, "executor-1", "does not get healthy", "executor-executor-1", "said last:", "Field required")
        password = fleet.on("executor-1", "sed -n s/^POSTGRES_PASSWORD=//p /opt/celium/executor/db.env")
        assert password not in str(answer)


def test_of_a_container_that_runs_again_the_attempt_that_died_says_why(fleet):
    program = (
        "[ -e /tmp/died ] || { touch /tmp/died; echo some words; sleep 1; echo why it died >&2; exit 1; };"
        " seq -f '%g of a new attempt' 20; exec sleep 600"
    )
    change = shlex.quote(f"CMD {json.dumps(['sh', '-c', program])}")
    make = f"docker commit --change {change} executor-monitor-1 celium-ops-test:restarts"
    with (
        broken(fleet, "executor-1", make, "docker rmi --force celium-ops-test:restarts"),
        fleet.variables("executor-1", executor_image="celium-ops-test:restarts", celium_start_timeout=10),
    ):
        answer = fleet.deploy(*SOME)
        said = "executor-executor-1 (running, starting) said last:\n  some words\n  why it died"
        assert_only(answer, "executor-1", "does not get healthy", said)
        assert "of a new attempt" not in answer["by_name"]["executor-1"]["error"]


def test_the_database_of_the_miner_is_down_when_executors_are_to_be_registered(fleet):
    fleet.sql("delete from executor where address = (select address from executor order by address limit 1)")
    with broken(fleet, "miner-1", "docker stop miner-db-1", "true"):
        # With the miner in the limit its stack would be started first.
        answer = fleet.deploy("--limit", "executors,validators")
        assert_only(answer, "miner-1", "the miner's database does not answer")
        assert answer["by_name"]["executor-1"]["registered"] is False
    answer = fleet.deploy(*SOME)
    assert (answer["rc"], answer["by_name"]["executor-1"]["registered"]) == (0, True)


def test_a_host_dies_in_the_middle_of_a_deploy(fleet):
    command = ("-i", str(fleet.lab.inventory), "--json", "deploy", "--full", "--limit", "executor-1,executor-2,miner-1")
    deploy = fleet.lab.start(*command, **IMPATIENT)
    try:
        assert any("executor-2: nvidia_docker" in line for line in deploy.stderr), "it has begun"
        with fleet.lab.paused("executor-2"):
            out, _ = deploy.communicate(timeout=240)
    finally:
        deploy.kill()
    hosts = {host["name"]: host for host in json.loads(out)["hosts"]}
    assert (deploy.returncode, hosts["executor-2"]["result"]) == (1, "unreachable")
    assert "the host does not answer" in hosts["executor-2"]["error"]
    assert {host["result"] for name, host in hosts.items() if name != "executor-2"} == {"ok"}


HANG = """
    printf '#!/bin/sh\nexec sleep 1000\n' > /usr/local/bin/hang; chmod +x /usr/local/bin/hang
    usermod --shell /usr/local/bin/hang operator; pkill -KILL -u operator || true
"""
"""Who logs in gets no answer, but the connection stays: OpenSSH's own questions are answered."""


def test_a_host_hangs_with_a_living_connection(fleet):
    repair = "usermod --shell /bin/bash operator; pkill -KILL -u operator || true"
    command = ("-i", str(fleet.lab.inventory), "--json", "deploy", *SOME)
    with fleet.variables("miner-1", celium_start_timeout=301), broken(fleet, "executor-1", HANG, repair):
        deploy = fleet.lab.start(*command, ANSIBLE_TASK_TIMEOUT="15")
        out, err = deploy.communicate(timeout=240)
        assert fleet.on("miner-1", "flock --nonblock /run/celium-ops.lock echo free") == "free"
    hosts = {host["name"]: host for host in json.loads(out)["hosts"]}
    assert (deploy.returncode, hosts["executor-1"]["result"]) == (1, "failed"), err
    assert "Gathering Facts: the task did not end in 15 s" in hosts["executor-1"]["error"]
    assert hosts["executor-1"]["remedy"]
    assert {host["result"] for name, host in hosts.items() if name != "executor-1"} == {"ok"}


def test_a_controller_that_lost_its_passwords_learns_them_from_the_hosts(fleet):
    own = fleet.lab.folder / "secrets" / "executor-1" / "executor_db_password"
    password, before = own.read_text(), fleet.started()
    own.unlink()
    checked = fleet.deploy("--check", *SOME)
    assert (checked["rc"], own.exists()) == (3, False), "a check makes no password"
    answer = fleet.deploy(*SOME)
    assert (answer["rc"], own.read_text(), own.stat().st_mode & 0o777) == (0, password, 0o600)
    assert fleet.started() == before, "no container was made again"


LOSE = """
    pid=$(docker inspect -f '{{.State.Pid}}' executor-executor-1)
    printf '#!/bin/sh\nfor word; do [ "$word" != start ] || exec sleep 600; done\nexec /usr/sbin/runc "$@"\n' > $0
    chmod +x $0; kill -9 $pid
    until pgrep -fx 'sleep 600'; do sleep 0.1; done
    rm $0; kill -9 $(cat /run/docker.pid); pkill -fx 'sleep 600'
    until docker inspect -f '{{.State.Status}} {{.State.Pid}}' executor-executor-1; do sleep 0.1; done
"""
"""Docker dies between making the process of a container and starting it: at a runc that waits there."""


def test_a_container_that_docker_lost_is_found_again(fleet):
    lost = fleet.on("executor-1", f"timeout 60 sh -c {shlex.quote(LOSE)} /usr/local/sbin/runc")
    assert lost.splitlines()[-1] == "restarting 0", lost
    assert fleet.run_json("plan")["rc"] == 3
    answer = fleet.deploy(*SOME)
    assert answer["ok"], answer


def test_a_database_whose_password_nobody_knows_is_left_alone(fleet):
    own = fleet.lab.folder / "secrets" / "executor-1" / "executor_db_password"
    password = own.read_text()
    fleet.reset("executor-1")
    own.unlink()
    with broken(fleet, "executor-1", "docker volume create executor_db_data", "docker volume rm executor_db_data"):
        answer = fleet.deploy(*SOME)
        assert_only(answer, "executor-1", "there is a database already (volume executor_db_data)")
        assert "executor_db_password" in answer["by_name"]["executor-1"]["remedy"]
        assert not own.exists()
    assert fleet.deploy(*SOME)["ok"]
    assert own.read_text() != password


def test_the_password_in_the_inventory_is_not_the_databases(fleet):
    with fleet.variables("executor-1", executor_db_password="another", celium_start_timeout=10):
        assert_only(fleet.deploy(*SOME), "executor-1", "the database has another password")


def test_docker_does_not_start_with_its_new_configuration(fleet):
    # A valid file, and a valid option of the service; Docker refuses to be told twice.
    twice = (
        "printf '[Service]\\nExecStart=\\nExecStart=%s\\n' '/usr/bin/dockerd -H fd:// --live-restore' > {0}/twice.conf"
    )
    drop_in = "/etc/systemd/system/docker.service.d"
    reload = "systemctl daemon-reload; systemctl restart docker"
    old = "mkdir -p {0}; echo '{{}}' > /etc/docker/daemon.json; " + twice + "; " + reload
    with broken(fleet, "executor-1", old.format(drop_in), f"rm {drop_in}/twice.conf; {reload}"):
        assert_only(
            fleet.deploy(*SOME), "executor-1", "Docker did not start with its new", "and Docker runs", "live-restore"
        )
        assert (
            fleet.on("executor-1", "cat /etc/docker/daemon.json; docker info -f '{{.LiveRestoreEnabled}}'")
            == "{}\ntrue"
        )
