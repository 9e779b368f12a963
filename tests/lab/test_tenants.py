"""A host that a tenant has, with real Docker and real Compose: what differs there waits, and nothing of his is touched.

About 200 s beside the deployed fleet.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from fleet import broken

HOST = "executor-1"
_IMAGE = "$(docker inspect -f '{{.Image}}' executor-db-1)"
_LOOK = "docker inspect -f '{{.Name}} {{.State.StartedAt}} {{.State.Status}}' $(docker ps -aq) | sort"
_STACK = _LOOK.replace("docker ps -aq", "docker ps -aq --filter label=com.docker.compose.project=executor")
_MARKS = {"project": "executor", "service": "executor", "oneoff": "False", "container-number": "1", "config-hash": "0"}


@pytest.fixture(scope="module")
def fleet(deployed):
    """Give the deployed fleet, and leave it so."""
    yield deployed
    assert deployed.deploy("--limit", HOST)["ok"]


@contextmanager
def rented(fleet, *options, name="pod_rented", command="sleep 900", labels=()):
    """Let a tenant have the host; the labels of his container come from his image, as a tenant's do."""
    marks = (f'LABEL "com.docker.compose.{key}"="{_MARKS[key]}"' for key in labels)
    lines = "\n".join(["FROM celium-tenant-base", *marks])
    build = (
        f"docker tag {_IMAGE} celium-tenant-base;"
        f"printf '%s\\n' '{lines}' | docker build -q -t celium-tenant - >/dev/null;"
        f"docker run -d --name {name} {' '.join(options)} --entrypoint sh celium-tenant -c '{command}' >/dev/null"
    )
    repair = f"docker rm -f {name}; docker rmi celium-tenant celium-tenant-base"
    with broken(fleet, HOST, f"DOCKER_BUILDKIT=0; export DOCKER_BUILDKIT; {build}", repair):
        yield


def test_what_differs_waits_for_the_tenant_and_the_rest_is_done(fleet):
    price = fleet.lab.inventory.read_bytes()
    with rented(fleet):
        before = fleet.on(HOST, _LOOK)
        fleet.set_variable(HOST, "executor_price", 0.75)
        fleet.set_variable(HOST, "celium_sysctls", {"net.ipv4.ip_local_reserved_ports": "40000-40010"})
        plan = {host["name"]: host for host in fleet.run_json("plan")["hosts"]}[HOST]
        assert any("waits for the tenant of executor-1: pod_rented" in one for one in plan["effects"]), plan
        answer = fleet.deploy("--limit", HOST)
        done = answer["by_name"][HOST]
        assert (answer["rc"], done["result"]) == (0, "ok"), answer
        assert {one["name"] for one in done["waits"]} == {"executor-executor-1", "executor-monitor-1"}
        assert {one["until"] for one in done["waits"]} == {"pod_rented"}
        assert fleet.on(HOST, _LOOK) == before, "nothing was restarted, recreated or removed"
        assert fleet.on(HOST, "cat /proc/sys/net/ipv4/ip_local_reserved_ports") == "40000-40010", "the rest is done"

        found = fleet.run_json("plan", "--limit", HOST)
        (host,) = found["hosts"]
        assert (found["rc"], found["changes"], host["state"]) == (3, 2, "differs"), "it is not forgotten"
        again = fleet.deploy("--limit", HOST, "--strict")
        assert (again["rc"], again["by_name"][HOST]["changed"], again["by_name"][HOST]["seconds"]) == (3, 0, 0)
        refused = fleet.deploy("--limit", HOST, "--even-if-rented")
        assert (refused["rc"], refused["error"]["code"]) == (2, "not-confirmed")
        assert fleet.on(HOST, _LOOK) == before
        tenant = "docker inspect -f '{{.Id}} {{.State.StartedAt}}' pod_rented"
        his = fleet.on(HOST, tenant)
        answer = fleet.deploy("--limit", HOST, "--even-if-rented", "--yes")
        assert (answer["rc"], answer["by_name"][HOST]["waits"]) == (0, []), answer
        assert fleet.on(HOST, "docker exec executor-executor-1 sh -c 'echo $RENTING_PRICE'") == "0.75"
        assert fleet.on(HOST, tenant) == his

        # What runs is left alone, what does not is started: that takes nothing from a tenant.
        fleet.lab.inventory.write_bytes(price)
        fleet.on(HOST, "docker stop executor-monitor-1 >/dev/null")
        answer = fleet.deploy("--limit", HOST)
        assert (answer["rc"], bool(answer["by_name"][HOST]["waits"])) == (0, True), answer
        assert fleet.on(HOST, "docker inspect -f '{{.State.Running}}' executor-monitor-1") == "true"
        assert fleet.on(HOST, "docker exec executor-executor-1 sh -c 'echo $RENTING_PRICE'") == "0.75"
    answer = fleet.deploy("--limit", HOST)
    assert (answer["rc"], answer["by_name"][HOST]["waits"]) == (0, []), "the tenant has gone"
    assert fleet.on(HOST, "docker exec executor-executor-1 sh -c 'echo $RENTING_PRICE'") != "0.75"
    assert fleet.run_json("plan", "--limit", HOST)["rc"] == 0


@pytest.mark.parametrize(
    ("labels", "options", "command"),
    [
        (tuple(_MARKS), (), "sleep 900"),
        (("project",), ("--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1"), "sleep 900"),
        (("project", "service"), (), "true"),
    ],
    ids=["as-a-replica", "unhealthy", "ended"],
)
def test_a_tenant_whose_image_has_the_labels_of_our_stack_is_not_touched(fleet, labels, options, command):
    with rented(fleet, *options, name="container_tenant1", labels=labels, command=command):
        before = fleet.on(HOST, _LOOK)
        assert fleet.status()["by_name"][HOST]["healthy"], "his container is none of ours"
        assert fleet.run_json("plan", "--limit", HOST)["rc"] == 0
        answer = fleet.deploy("--full", "--limit", HOST)
        failed = answer["by_name"][HOST]
        assert (answer["rc"], failed["result"], failed["code"]) == (1, "failed", "tenant-in-stack"), answer
        assert "container_tenant1" in failed["error"]
        assert fleet.on(HOST, _LOOK) == before
